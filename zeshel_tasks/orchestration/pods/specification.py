"""Parts of a stage's pod: labels, volumes, security contexts, environment, resources."""

from __future__ import annotations

import hashlib

from airflow.providers.cncf.kubernetes.pod_generator import merge_objects
from kubernetes.client import models as k8s

from zeshel_tasks.orchestration.pod_settings import HubCache, PodClass, PodSettings
from zeshel_tasks.orchestration.settings import RunConfig
from zeshel_tasks.orchestration.task_command import TaskCommand

SCRATCH = "/scratch"  # images/tasks sets HOME, TMPDIR and ZESHEL_SCRATCH to it
HUB_CACHE = "/hub-cache"


def labels(command: TaskCommand, pods: PodSettings) -> dict[str, str]:
    """Return the labels for ``kubectl get pods -l`` and NetworkPolicies. The operator adds the run.

    The operator also finds a task's pod by them. Run ids are alike in all deployments, so the instance must differ.
    """
    return {**pods.labels, **labels_of_all(command, pods), **command.labels}


def labels_of_all(command: TaskCommand, pods: PodSettings) -> dict[str, str]:
    """Return the labels that all pods of the command's deployment have, and no others."""
    return instance_labels(pods.instance or f"store-{hashlib.sha256(command.store.encode()).hexdigest()[:10]}")


def instance_labels(instance: str) -> dict[str, str]:
    """Return :func:`labels_of_all` for the name of a deployment."""
    return {
        "app.kubernetes.io/name": "zeshel",
        "app.kubernetes.io/instance": instance,
        "app.kubernetes.io/component": "stage",
    }


def image(command: TaskCommand, pods: PodSettings, run: RunConfig) -> str:
    """Return the image that runs the command: the run's, or one of the deployment's two."""
    return run.image or (command.is_small and pods.small_image) or pods.image


def annotations_of(command: TaskCommand, pods: PodSettings) -> dict[str, str]:
    """Return the deployment's annotations. By default, Karpenter does not move a training to a cheaper node."""
    own = {"karpenter.sh/do-not-disrupt": "true"} if command.trains else {}
    return own | pods.annotations


def volumes(command: TaskCommand, pods: PodSettings) -> list[k8s.V1Volume]:
    """Return a scratch volume on the node's disk, a volume of shared memory and, for a model, the cache of the hub."""
    own = [
        # The root file system is read-only. The limit prevents one run from filling the node's disk.
        k8s.V1Volume(name="scratch", empty_dir=k8s.V1EmptyDirVolumeSource(size_limit=pods.scratch_size)),
        # A container's own /dev/shm has 64 MiB, which is too little for NCCL and the workers of a data loader.
        k8s.V1Volume(name="shm", empty_dir=k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit=pods.shm_size)),
    ]
    return own + ([_hub_cache(pods.hub_cache)] if pods.hub_cache and command.runs_a_model else [])


def _hub_cache(cache: HubCache) -> k8s.V1Volume:
    if cache.claim_name is not None:
        claim = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=cache.claim_name)
        return k8s.V1Volume(name="hub-cache", persistent_volume_claim=claim)
    # Kubernetes would create a missing folder for root only.
    folder = k8s.V1HostPathVolumeSource(path=cache.host_path, type="Directory")
    return k8s.V1Volume(name="hub-cache", host_path=folder)


def volume_mounts(command: TaskCommand, pods: PodSettings) -> list[k8s.V1VolumeMount]:
    """Return the mount points of :func:`volumes`."""
    places = {"scratch": SCRATCH, "shm": "/dev/shm", "hub-cache": HUB_CACHE}
    return [k8s.V1VolumeMount(name=name, mount_path=places[name]) for name in (v.name for v in volumes(command, pods))]


def pod_security(pods: PodSettings, template: k8s.V1Pod | None) -> k8s.V1PodSecurityContext:
    """Meet the Pod Security Standard "restricted". fsGroup lets the user write to the volumes.

    OpenShift refuses users and groups that it has not chosen itself, so without a user all three are left out. The
    template may add other groups. The provider would drop them, because it merges no security contexts.
    """
    user = pods.run_as_user
    own = k8s.V1PodSecurityContext(
        run_as_non_root=True,
        run_as_user=user,
        run_as_group=user,
        fs_group=user,
        seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
    )
    return own if template is None else merge_objects(template.spec.security_context, own)


def container_security() -> k8s.V1SecurityContext:
    """Meet the same standard for the container, with a read-only root file system."""
    return k8s.V1SecurityContext(
        allow_privilege_escalation=False,
        read_only_root_filesystem=True,
        capabilities=k8s.V1Capabilities(drop=["ALL"]),
    )


def environment(command: TaskCommand, pods: PodSettings) -> list[k8s.V1EnvVar]:
    """Return the deployment's variables, and set the number of threads to the pod's cores."""
    # By default, torch starts a thread for each core of the node, and they compete for the few cores of the pod.
    cores = k8s.V1EnvVarSource(
        resource_field_ref=k8s.V1ResourceFieldSelector(container_name="base", resource="limits.cpu", divisor="1")
    )
    own = [
        k8s.V1EnvVar(name="OMP_NUM_THREADS", value_from=cores),
        # Pods share a node's cores, and threads that spin while they wait would slow other pods down.
        k8s.V1EnvVar(name="OMP_WAIT_POLICY", value="PASSIVE"),
    ]
    if pods.hub_cache and command.runs_a_model:
        own.append(k8s.V1EnvVar(name="HF_HUB_CACHE", value=HUB_CACHE))
    return [variable for variable in own if variable.name not in pods.env] + [
        k8s.V1EnvVar(name=name, value=value) for name, value in pods.env.items()
    ]


def resources(
    command: TaskCommand, pods: PodSettings, pod_class: PodClass, run: RunConfig, template: k8s.V1Pod | None
) -> k8s.V1ResourceRequirements:
    """Return CPU, memory and GPUs, and the template's claims; the run's settings override the deployment's."""
    requests, limits = dict(pod_class.resources.requests), dict(pod_class.resources.limits)
    if command.runs_a_model:
        if run.memory is not None:
            # Set both, because a node that runs short evicts pods that use more than their request.
            requests["memory"] = limits["memory"] = run.memory
        gpus = pods.gpus if run.gpus is None else run.gpus
        if not command.trains:
            gpus = min(gpus, 1)  # a training runs a process per GPU, an evaluation only one
        if gpus:
            requests[pods.gpu_resource] = limits[pods.gpu_resource] = str(gpus)
    claimed = None if template is None else template.spec.containers[0].resources
    return k8s.V1ResourceRequirements(requests=requests, limits=limits, claims=claimed.claims if claimed else None)
