"""What a deployment decides about the pods of its stages: the environment variable ``ZESHEL_PODS``, one JSON object.

The chart writes it; its values ``stages.*`` have these names. Where Kubernetes has a name for a thing, it is ours.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

QUANTITY = r"^\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"  # of Kubernetes, without its exponents
Quantity = Annotated[str, StringConstraints(pattern=QUANTITY)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Seconds = Annotated[int, Field(ge=1, le=31_536_000)]


class _Settings(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class Resources(_Settings):
    """``requests`` and ``limits`` of a container."""

    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class PodClass(_Settings):
    """Where the pods of some stages go, and what they get there."""

    resources: Resources = Field(Resources(), description="CPU and memory; GPUs are set by `gpus`.")
    node_selector: dict[str, str] = Field({}, description="Labels that a node must have.")
    tolerations: list[dict[str, Any]] = Field([], description="Taints of nodes that the pods may run on all the same.")
    affinity: dict[str, Any] = Field({}, description="Affinity of Kubernetes.")
    priority_class_name: Name | None = Field(None, description="Who is preempted by whom.")


class PodSettings(_Settings):
    """How the pod of a stage is made, for every stage of every run."""

    image: Name = Field(description="Image of the stages; a run may choose another.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        "IfNotPresent", description="When a node pulls the image."
    )
    image_pull_secrets: list[Name] = Field([], description="Names of Secrets for the image's registry.")
    namespace: Name = Field(description="Where the pods are made.")
    service_account_name: Name = Field("default", description="Of the pods; its token is not mounted.")
    in_cluster: bool = Field(True, description="Airflow runs in the same cluster.")
    connection_id: Name | None = Field(None, description="Airflow connection to another cluster.")
    env: dict[str, str] = Field({}, description="Environment variables of the pods.")
    secrets: list[Name] = Field([], description="Secrets, each key of which becomes an environment variable.")
    labels: dict[str, str] = Field({}, description="Labels of the pods besides ours (a Kueue queue, say).")
    annotations: dict[str, str] = Field({}, description="Annotations of the pods.")
    gpus: int = Field(1, ge=0, le=64, description="GPUs of each stage that runs a model.")
    gpu_resource: Name = Field("nvidia.com/gpu", description="What the cluster calls a GPU.")
    run_as_user: int = Field(50000, ge=1, le=2**31 - 1, description="User and group of the pods; never root.")
    model: PodClass = Field(PodClass(), description="Pods of the stages that run a model (train-*, eval-*).")
    data: PodClass = Field(PodClass(), description="Pods of the other stages (download, convert, report).")
    scratch_size: Quantity = Field("50Gi", description="Local disk of a pod at most; it is evicted beyond that.")
    shm_size: Quantity = Field("8Gi", description="/dev/shm of a pod at most; it is memory of the pod.")
    termination_grace_period_seconds: Seconds = Field(120, description="From SIGTERM to SIGKILL: to save a checkpoint.")
    active_deadline_seconds: Seconds = Field(604_800, description="A pod that runs for longer is ended.")
    schedule_timeout_seconds: Seconds = Field(3600, description="For a node to have room; GPU nodes scale up slowly.")
    startup_timeout_seconds: Seconds = Field(900, description="From there to a running container; images are large.")
    logging_interval_seconds: Seconds = Field(30, description="Between two looks at the log of a running stage.")
    poll_interval_seconds: Seconds = Field(2, description="Between two looks at the pod.")
