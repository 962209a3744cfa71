"""The K2Pipelines as Kopf's watch brought them, and whether a change of one needs a reconcile.

Filled by `handlers` and by answers to the operator's own writes; read by `reconcile`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from k2_operator.store import Key, version_of


class Pipelines:
    """Packed bodies by key."""

    def __init__(self) -> None:
        self._bodies: dict[Key, tuple[int, bytes]] = {}

    def put(self, body: Mapping[str, Any]) -> bool:
        """Take a pipeline in; return whether it differs in more than its status from what was there."""
        key, version = key_of(body), version_of(body)
        standing = self._bodies.get(key)
        if standing is not None and standing[0] >= version:
            return False
        before = None if standing is None else _fingerprint(msgspec.json.decode(standing[1]))
        metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
        self._bodies[key] = version, msgspec.json.encode({**body, "metadata": metadata})
        return before != _fingerprint(body)

    def drop(self, key: Key) -> None:
        """Forget one that is gone."""
        self._bodies.pop(key, None)

    def get(self, key: Key) -> dict[str, Any] | None:
        """Return one, or None if it is gone."""
        standing = self._bodies.get(key)
        return None if standing is None else msgspec.json.decode(standing[1])

    def bodies(self) -> Iterator[dict[str, Any]]:
        """Yield all of them."""
        for _, body in list(self._bodies.values()):
            yield msgspec.json.decode(body)

    def __contains__(self, key: object) -> bool:
        return key in self._bodies

    def __len__(self) -> int:
        return len(self._bodies)


def key_of(body: Mapping[str, Any]) -> Key:
    """Return a pipeline's key."""
    return Key(body["metadata"]["namespace"], body["metadata"]["name"])


def _fingerprint(body: Mapping[str, Any]) -> tuple[object, ...]:
    """Everything that a reconcile acts on; the status is its own work."""
    metadata = body["metadata"]
    names = ("uid", "generation", "deletionTimestamp", "finalizers", "annotations")
    return tuple(metadata.get(name) for name in names)
