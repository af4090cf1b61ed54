"""Settings of the stages' pods: the environment variable ``ZESHEL_PODS``, one JSON object.

The chart writes it from its values ``stages.*``, which have these names. The names follow Kubernetes where possible.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

QUANTITY = r"^\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"  # a Kubernetes quantity without exponent
SIZE = r"^([1-9]\d*(\.\d+)?|0\.\d*[1-9]\d*)(k|M|G|T|Ki|Mi|Gi|Ti)?$"  # more than zero bytes
HOST_PATH = r"^/\S+$"
Quantity = Annotated[str, StringConstraints(pattern=QUANTITY)]
Size = Annotated[str, StringConstraints(pattern=SIZE)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")]
Seconds = Annotated[int, Field(ge=1, le=31_536_000)]


class _Settings(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class Resources(_Settings):
    """``requests`` and ``limits`` of a container."""

    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class PodClass(_Settings):
    """Resources and placement of the pods of some stages."""

    resources: Resources = Field(Resources(), description="CPU and memory. `gpus` sets the GPUs.")
    node_selector: dict[str, str] = Field({}, description="Labels that a node must have.")
    tolerations: list[dict[str, Any]] = Field([], description="Taints that the pods tolerate.")
    affinity: dict[str, Any] = Field({}, description="Kubernetes affinity.")
    priority_class_name: Name | None = Field(None, description="Priority class.")
    pod_template: dict[str, Any] = Field({}, description="As the one of all pods, for these in addition.")


class HubCache(_Settings):
    """A volume that keeps models of the hub: a claim, or a folder of each node."""

    claim_name: Name | None = Field(None, description="A claim in the pods' namespace.")
    host_path: Annotated[str, StringConstraints(pattern=HOST_PATH)] | None = Field(
        None, description="A folder of the node, which the pods' user can write to."
    )

    @model_validator(mode="after")
    def _is_one_volume(self) -> HubCache:
        if (self.claim_name is None) == (self.host_path is None):
            raise ValueError(f"expected claimName or hostPath, got {'neither' if self.claim_name is None else 'both'}")
        return self


class PodSettings(_Settings):
    """Settings of the pods of all stages and runs."""

    image: Name = Field(description="Image of the stages. A run may override it.")
    small_image: Name | None = Field(
        None,
        description="Image of the stages that run no model. Empty: `image`.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        "IfNotPresent", description="Pull policy of the image."
    )
    image_pull_secrets: list[Name] = Field([], description="Names of Secrets with registry credentials.")
    namespace: Name = Field(description="Namespace of the pods.")
    instance: Label | None = Field(
        None,
        description="Name that no other Airflow uses for its pods in the namespace. Empty: a hash of the store, and a "
        "pod that no task waits for any more may run to its end.",
    )
    service_account_name: Name = Field("default", description="Service account of the pods. Its token is not mounted.")
    in_cluster: bool = Field(True, description="True if Airflow runs in the same cluster.")
    connection_id: Name | None = Field(None, description="Airflow connection to another cluster.")
    env: dict[str, str] = Field({}, description="Environment variables of the pods.")
    secrets: list[Name] = Field([], description="Names of Secrets. Each key becomes an environment variable.")
    labels: dict[str, str] = Field({}, description="Additional labels of the pods, for example a Kueue queue.")
    annotations: dict[str, str] = Field({}, description="Annotations of the pods.")
    gpus: int = Field(1, ge=0, le=64, description="GPUs per training pod. An evaluation pod gets one.")
    gpu_resource: Name = Field("nvidia.com/gpu", description="Resource name of a GPU in the cluster.")
    fixed_params: list[Literal["gpus", "memory", "image"]] = Field(
        [], description="Fields that the trigger form does not have, so that no run chooses its own value."
    )
    run_as_user: int | None = Field(
        50000,
        ge=1,
        le=2**31 - 1,
        description="User and group ID of the pods. Root is rejected. Null: the cluster chooses, as OpenShift does.",
    )
    model: PodClass = Field(PodClass(), description="Pods of the stages that run a model (train-*, eval-*).")
    data: PodClass = Field(
        PodClass(), description="Pods of the other stages (download, convert, fuse, calibrate, report)."
    )
    hub_cache: HubCache | None = Field(
        None,
        description="Volume on which pods that run a model keep the models of the hub. Empty: their scratch space.",
    )
    pod_template: dict[str, Any] = Field(
        {}, description="Volumes, mounts, variables and more, in the form of Kubernetes: `{spec: {...}}`."
    )
    scratch_size: Size = Field("50Gi", description="Maximum scratch space. A pod that uses more is evicted.")
    shm_size: Size = Field("8Gi", description="Maximum size of /dev/shm, which counts as memory.")
    termination_grace_period_seconds: Seconds = Field(120, description="Time from SIGTERM to SIGKILL.")
    active_deadline_seconds: Seconds = Field(604_800, description="Maximum run time of a pod.")
    schedule_timeout_seconds: Seconds = Field(3600, description="Time to wait for a node with room, after any queue.")
    startup_timeout_seconds: Seconds = Field(900, description="Time from then until the container runs.")
    logging_interval_seconds: Seconds = Field(30, description="Time between two reads of a stage's log.")
    poll_interval_seconds: Seconds = Field(2, description="Time between two checks of the pod's state.")
