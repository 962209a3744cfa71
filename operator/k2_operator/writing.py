"""Writes children by server-side apply: only where something differs, never over another tool's standing wish.

Called by `reconcile`. Somebody's one-off edit of a field that the operator owns is drift and is taken back; a manager
that applied the field, or that edits it again and again, is told of in the condition `Owned` and left alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from k2_operator.autoscalers import Autoscalers
from k2_operator.cluster import Cluster
from k2_operator.compare import differences
from k2_operator.errors import ApiRefusedError, FieldConflictError
from k2_operator.names import DEPLOYMENT, KINDS, MANAGER, Kind
from k2_operator.status import Refusal
from k2_operator.store import Key, Place, Store, owner_uid, pipeline_of, place_of

NAME_TAKEN: Final = "NameTaken"
MENDED_WITHIN_S: Final = 600.0
MENDED_AT_MOST: Final = 5
"""How often one object is taken back in that time. More is no slip but another controller, and two would fight on."""

Manifest = Mapping[str, Any]


class Writer:
    """Brings children to what was rendered.

    Args:
        cluster: The API server.
        store: What stands there.
        autoscalers: Who else scales.
        clock: Monotonic seconds.
        wake: Has a pipeline reconciled again, of which something was written.
    """

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        autoscalers: Autoscalers,
        clock: Callable[[], float] = time.monotonic,
        *,
        wake: Callable[[Key], None],
    ) -> None:
        self._wake = wake
        self._cluster = cluster
        self._store = store
        self._autoscalers = autoscalers
        self._clock = clock
        self._mended: defaultdict[Place, deque[float]] = defaultdict(lambda: deque(maxlen=MENDED_AT_MOST))

    async def write(self, manifests: Sequence[Manifest], uid: str) -> list[Refusal]:
        """Apply what differs, kind after kind; return what could not be written.

        Pods are not begun with a file or an account that is somebody else's.
        """
        refusals: list[Refusal] = []
        for kind, group in groupby(manifests, key=lambda manifest: str(manifest["kind"])):
            if kind == DEPLOYMENT.name and any(refusal.reason == NAME_TAKEN for refusal in refusals):
                break
            found = await asyncio.gather(*(self._one(manifest, uid) for manifest in group))
            refusals += [refusal for refusal in found if refusal is not None]
        return refusals

    async def _one(self, manifest: Manifest, uid: str) -> Refusal | None:
        kind = KINDS[manifest["kind"]]
        place = place_of(kind, manifest)
        live = self._store.get(place) or await self._cluster.get(kind, place.namespace, place.name)
        if live is not None and owner_uid(live) != uid:
            return taken(place, live)
        if live is not None and pipeline_of(live) is not None and not differences(manifest, live):
            return None
        if (scaler := self._second_hand(place, manifest)) is not None:
            return scaler
        return await self._apply(place, manifest)

    def _second_hand(self, place: Place, manifest: Manifest) -> Refusal | None:
        """Return a refusal if somebody else scales a Deployment that is to run; at 0 replicas autoscalers pause."""
        if place.kind != DEPLOYMENT.name or not manifest["spec"]["replicas"]:
            return None
        return self.second_hand(place)

    def second_hand(self, place: Place) -> Refusal | None:
        """Return a refusal if somebody else scales a Deployment."""
        scaler = self._autoscalers.of(place.namespace, place.name)
        if scaler is None:
            return None
        text = f"{scaler} scales Deployment {place.name}, which is K2's to scale: delete it; until then K2 leaves the"
        return Refusal("ForeignAutoscaler", f"{text} Deployment as it is")

    async def _apply(self, place: Place, manifest: Manifest) -> Refusal | None:
        kind = KINDS[place.kind]
        try:
            self._take_in(kind, await self._cluster.apply(manifest))
        except FieldConflictError as error:
            others = [conflict for conflict in error.conflicts if conflict.manager != MANAGER]
            if any(conflict.declared for conflict in others) or (others and not self._may_mend(place)):
                return _conflict(place, error)
            self._take_in(kind, await self._cluster.apply(manifest, force=True))
        except ApiRefusedError as error:
            text = f"{place.kind} {place.name}: {error}; correct the pipeline, or the operator's role"
            return Refusal("ApiRefused", text)
        return None

    def _take_in(self, kind: Kind, body: Mapping[str, Any]) -> None:
        """Keep the answer to a write, and have its pipeline looked at again: the watch tells nothing newer."""
        if (key := self._store.put(kind, body)) is not None:
            self._wake(key)

    def _may_mend(self, place: Place) -> bool:
        """Whether a one-off edit is taken back: not more than a few times in a while."""
        now_s, mended = self._clock(), self._mended[place]
        if len(mended) == MENDED_AT_MOST and now_s - mended[0] < MENDED_WITHIN_S:
            return False
        mended.append(now_s)
        return True

    async def scale_down(self, names: Iterable[str], namespace: str, uid: str) -> None:
        """Set Deployments to 0 replicas and leave all else as it is: where they cannot be rendered now."""
        for name in names:
            place = Place(DEPLOYMENT.name, namespace, name)
            live = self._store.get(place)
            if live is not None and owner_uid(live) == uid and live["spec"].get("replicas"):
                patch = {"metadata": {"uid": live["metadata"]["uid"]}, "spec": {"replicas": 0}}
                self._take_in(DEPLOYMENT, await self._cluster.merge(DEPLOYMENT, namespace, name, patch))

    async def delete(self, places: Iterable[Place], uid: str) -> None:
        """Delete children of that owner."""
        for place in places:
            live = self._store.get(place)
            if live is not None and owner_uid(live) == uid and "deletionTimestamp" not in live["metadata"]:
                kind = KINDS[place.kind]
                await self._cluster.delete(kind, place.namespace, place.name, live["metadata"]["uid"])


def taken(place: Place, live: Mapping[str, Any]) -> Refusal:
    """Return the refusal to touch what belongs to somebody else."""
    owners = live["metadata"].get("ownerReferences") or [{"kind": "nobody", "name": "in particular"}]
    whose = f"{owners[0]['kind']} {owners[0]['name']}"
    text = f"{place.kind} {place.name} is there already and belongs to {whose}: delete or rename it"
    return Refusal(NAME_TAKEN, text)


def _conflict(place: Place, error: FieldConflictError) -> Refusal:
    managers = ", ".join(sorted({conflict.manager for conflict in error.conflicts}))
    fields = ", ".join(sorted({conflict.field for conflict in error.conflicts}))
    text = f"{place.kind} {place.name}: {managers} owns {fields}; take these out of what it applies"
    return Refusal("FieldConflict", text)
