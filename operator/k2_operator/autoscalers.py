"""Which Deployments somebody else scales: HorizontalPodAutoscalers and KEDA's ScaledObjects, as the watches have them.

Replicas are in one hand or they swing; so a Deployment with such a second hand is left alone, and a condition says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from k2_operator.names import DEPLOYMENT, Kind
from k2_operator.store import Place, place_of


class Autoscalers:
    """Autoscalers by target.

    Args:
        changed: Called with namespace and Deployment's name when one comes or goes.
    """

    def __init__(self, changed: Callable[[str, str], None]) -> None:
        self._changed = changed
        self._targets: dict[Place, tuple[str, str]] = {}

    def put(self, kind: Kind, body: Mapping[str, Any]) -> None:
        """Take one in."""
        place, target = place_of(kind, body), body.get("spec", {}).get("scaleTargetRef", {})
        if target.get("kind", DEPLOYMENT.name) != DEPLOYMENT.name:
            self.drop(place, None)
            return
        aim = place.namespace, target.get("name", "")
        if self._targets.get(place) != aim:
            self.drop(place, None)
            self._targets[place] = aim
            self._changed(*aim)

    def drop(self, place: Place, version: int | None) -> None:  # noqa: ARG002  # versions tell nothing here
        """Forget one."""
        aim = self._targets.pop(place, None)
        if aim is not None:
            self._changed(*aim)

    def standing(self, kind: Kind, namespace: str | None) -> list[Place]:
        """Return what is known of a kind."""
        return [place for place in self._targets if place.kind == kind.name and namespace in {None, place.namespace}]

    def of(self, namespace: str, deployment: str) -> str | None:
        """Return kind and name of what scales a Deployment, or None."""
        for place, aim in self._targets.items():
            if aim == (namespace, deployment):
                return f"{place.kind} {place.name}"
        return None
