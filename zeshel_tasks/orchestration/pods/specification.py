"""The parts of a stage's pod that Kubernetes has classes for. Each has its reason beside it."""

from __future__ import annotations

from kubernetes.client import models as k8s

from zeshel_tasks.orchestration.pod_settings import PodClass, PodSettings
from zeshel_tasks.orchestration.settings import RunConfig
from zeshel_tasks.pipeline.stage import Step

SCRATCH = "/scratch"  # images/tasks sets HOME, TMPDIR and ZESHEL_SCRATCH to it


def labels(step: Step, pods: PodSettings) -> dict[str, str]:
    """By which ``kubectl get pods -l`` and a NetworkPolicy find the pod; the operator adds the run."""
    own = {
        "app.kubernetes.io/name": "zeshel",
        "app.kubernetes.io/component": "stage",
        "zeshel/stage": step.stage.name,
    }
    return pods.labels | own | ({"zeshel/split": step.split} if step.split else {})


def volumes(pods: PodSettings) -> list[k8s.V1Volume]:
    """Scratch on the node's disk, and shared memory."""
    return [
        # The root file system is read-only. The limit keeps one run from filling the node's disk for all.
        k8s.V1Volume(name="scratch", empty_dir=k8s.V1EmptyDirVolumeSource(size_limit=pods.scratch_size)),
        # A container's own /dev/shm has 64 MiB, which NCCL and workers of a data loader exceed.
        k8s.V1Volume(name="shm", empty_dir=k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit=pods.shm_size)),
    ]


def volume_mounts() -> list[k8s.V1VolumeMount]:
    """Where the stage finds them."""
    return [
        k8s.V1VolumeMount(name="scratch", mount_path=SCRATCH),
        k8s.V1VolumeMount(name="shm", mount_path="/dev/shm"),
    ]


def pod_security(pods: PodSettings) -> k8s.V1PodSecurityContext:
    """What the Pod Security Standard "restricted" asks of a pod; fsGroup lets the user write to the volumes."""
    user = pods.run_as_user
    return k8s.V1PodSecurityContext(
        run_as_non_root=True,
        run_as_user=user,
        run_as_group=user,
        fs_group=user,
        seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
    )


def container_security() -> k8s.V1SecurityContext:
    """What it asks of a container, and a root file system that nothing can be written to."""
    return k8s.V1SecurityContext(
        allow_privilege_escalation=False,
        read_only_root_filesystem=True,
        capabilities=k8s.V1Capabilities(drop=["ALL"]),
    )


def environment(pods: PodSettings) -> list[k8s.V1EnvVar]:
    """The deployment's variables, and as many threads as the pod has cores."""
    # Left to itself, torch starts a thread for each core of the node, and they wait for the few that the pod may use.
    cores = k8s.V1EnvVarSource(
        resource_field_ref=k8s.V1ResourceFieldSelector(container_name="base", resource="limits.cpu", divisor="1")
    )
    own = [
        k8s.V1EnvVar(name="OMP_NUM_THREADS", value_from=cores),
        # Pods share a node's cores: threads that wait by spinning would slow the others down.
        k8s.V1EnvVar(name="OMP_WAIT_POLICY", value="PASSIVE"),
    ]
    return [variable for variable in own if variable.name not in pods.env] + [
        k8s.V1EnvVar(name=name, value=value) for name, value in pods.env.items()
    ]


def resources(step: Step, pods: PodSettings, pod_class: PodClass, run: RunConfig) -> k8s.V1ResourceRequirements:
    """CPU, memory and GPUs, with what a person chose for this run in place of the deployment's."""
    requests, limits = dict(pod_class.resources.requests), dict(pod_class.resources.limits)
    if step.stage.runs_a_model:
        if run.memory is not None:
            # Both: a pod whose limit is above its request is the first to go when the node runs short.
            requests["memory"] = limits["memory"] = run.memory
        gpus = pods.gpus if run.gpus is None else run.gpus
        if not step.stage.trains:
            gpus = min(gpus, 1)  # a training has a process for each GPU; an evaluation is one process
        if gpus:
            requests[pods.gpu_resource] = limits[pods.gpu_resource] = str(gpus)
    return k8s.V1ResourceRequirements(requests=requests, limits=limits)
