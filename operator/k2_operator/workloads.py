"""How the parts of a pipeline fare: each Deployment with its pods, and the one reason worth telling if it is not ready.

Read from what the watches brought; called by `reconcile` for `plan` and `status`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from k2_operator.names import COMPONENT_LABEL, DEPLOYMENT, POD, SOURCE_LABEL
from k2_operator.store import Place

LONGEST_MESSAGE: Final = 400
EXIT_WRONG_SETTINGS: Final = 2
EXIT_NEEDS_A_PERSON: Final = 5

_IMAGE: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a workload is not ready.

    Args:
        reason: One word for conditions.
        message: What was found, and the next step.
    """

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Workload:
    """One Deployment and its pods.

    Args:
        component: `ingest`, `sink` or `query`.
        name: Of the Deployment.
        wanted: Replicas that it is asked for; 0 without a Deployment.
        ready: Pods that are ready, as the Deployment says.
        settled: Whether the Deployment's controller has seen its newest version and all pods are of it.
        gone: Whether nothing is asked for and no pod is left.
        replacing: Whether pods of an older version are left: it rolls out, which scaling alone never does.
        trouble: Why it is not ready; None if it is.
    """

    component: str
    name: str
    wanted: int
    ready: int
    settled: bool
    gone: bool
    trouble: Trouble | None
    replacing: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether as many pods are ready as are wanted, of the newest version."""
        return self.ready >= self.wanted and self.settled


def workload(
    name: str, component: str, source: str | None, standing: Sequence[tuple[Place, Mapping[str, Any]]]
) -> Workload:
    """Return how one of a pipeline's workloads fares.

    Args:
        name: Of its Deployment.
        component: Of its pods.
        source: Of its pods, if they are an ingest's.
        standing: Everything that the watches have of the pipeline.
    """
    deployment = next((body for place, body in standing if place.kind == DEPLOYMENT.name and place.name == name), None)
    pods = [body for place, body in standing if place.kind == POD.name and _is_of(body, component, source)]
    if deployment is None:
        trouble = Trouble("Missing", f"found no Deployment {name} yet: made once what it needs is there")
        return Workload(component, name, 0, 0, settled=False, gone=not pods, trouble=trouble)
    spec, status = deployment["spec"], deployment.get("status", {})
    wanted, ready = spec.get("replicas", 1), status.get("readyReplicas", 0)
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    settled = seen and status.get("updatedReplicas", 0) >= wanted and status.get("replicas", 0) <= wanted
    gone = wanted == 0 and seen and status.get("replicas", 0) == 0 and not pods
    found = None if ready >= wanted and settled else _trouble(name, ready, wanted, pods)
    replacing = status.get("replicas", 0) > status.get("updatedReplicas", 0)
    return Workload(component, name, wanted, ready, settled, gone, found, replacing)


def _is_of(pod: Mapping[str, Any], component: str, source: str | None) -> bool:
    labels = pod["metadata"].get("labels", {})
    return bool(labels.get(COMPONENT_LABEL) == component and labels.get(SOURCE_LABEL) == source)


def _trouble(name: str, ready: int, wanted: int, pods: Iterable[Mapping[str, Any]]) -> Trouble:
    """Return the worst of what the pods say, or that they are on their way."""
    if found := troubles(pods):
        return found[0]
    return Trouble("Starting", f"{name}: found {ready} of {wanted} pods ready; wait, or look at its pods' events")


def troubles(pods: Iterable[Mapping[str, Any]]) -> list[Trouble]:
    """Return what pods say of what keeps them from running."""
    return [trouble for pod in pods for trouble in _pod_troubles(pod)]


def succeeded_message(pods: Iterable[Mapping[str, Any]]) -> str:
    """Return the last line of a pod that has done its work, "" where none says any."""
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses", ()):
            ended = container.get("state", {}).get("terminated", {})
            if ended.get("exitCode") == 0 and ended.get("message"):
                return _short(ended["message"])
    return ""


def _pod_troubles(pod: Mapping[str, Any]) -> Iterable[Trouble]:
    if "deletionTimestamp" in pod["metadata"]:
        return
    name, status = pod["metadata"]["name"], pod.get("status", {})
    for container in _containers(status):
        state, last = container.get("state", {}), container.get("lastState", {})
        waiting = state.get("waiting", {})
        if waiting.get("reason") in _IMAGE:
            text = f"pod {name}: {waiting['reason']}: {_short(waiting.get('message', ''))}"
            yield Trouble("ImagePull", f"{text}; check the image's name and the pull secrets")
        elif waiting.get("reason") == "CreateContainerConfigError":
            text = f"pod {name}: {_short(waiting.get('message', ''))}"
            yield Trouble("PodConfig", f"{text}; check the secrets that the pipeline refers to")
        ended = state.get("terminated") or (None if "running" in state else last.get("terminated"))
        if ended:
            yield _ended(name, ended, container.get("restartCount", 0))
    for condition in status.get("conditions", ()):
        if condition.get("reason") == "Unschedulable":
            text = f"pod {name}: {_short(condition.get('message', ''))}"
            yield Trouble("Unschedulable", f"{text}; add nodes or lower the resources in the spec")


def _containers(status: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """Yield a pod's containers; of those that only prepare, what has not done its work."""
    for container in status.get("initContainerStatuses", ()):
        if container.get("state", {}).get("terminated", {}).get("exitCode") != 0:
            yield container
    yield from status.get("containerStatuses", ())


def _ended(pod: str, ended: Mapping[str, Any], restarts: int) -> Trouble:
    code, word = ended.get("exitCode"), _short(ended.get("message", "")) or ended.get("reason", "")
    text = f"pod {pod} ended with {code} after {restarts} restarts: {word}"
    if code == EXIT_NEEDS_A_PERSON:
        return Trouble("NeedsDecision", f"{text}; it goes on when somebody has decided, see the command in the message")
    if code == EXIT_WRONG_SETTINGS:
        return Trouble("WrongSettings", f"{text}; correct the pipeline or its secrets")
    if ended.get("reason") == "OOMKilled":
        return Trouble("OutOfMemory", f"pod {pod} was killed for its memory; raise resources.limits.memory in the spec")
    return Trouble("CrashLoop", f"{text}; it is started again with growing pauses")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 3] + "..."
