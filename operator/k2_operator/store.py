"""What the API server has of the operator's children and their pods, as the watches brought it: one copy, packed.

Filled by `watch` and by answers to the operator's own writes; read by `reconcile`. A thousand pipelines have 15,000
children: as Python objects they would fill the memory that the operator has, as JSON they take 30 MB.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from k2_operator.names import DEPLOYMENT, PIPELINE_LABEL, POD, Kind

_POD_FIELDS: Final = ("phase", "initContainerStatuses", "containerStatuses", "conditions", "reason", "message")


class Key(NamedTuple):
    """A pipeline: its namespace and name."""

    namespace: str
    name: str


class Place(NamedTuple):
    """An object: its kind's name, namespace and name."""

    kind: str
    namespace: str
    name: str


class _Packed(NamedTuple):
    version: int
    pipeline: Key
    body: bytes


class Store:
    """Objects by place and by pipeline."""

    def __init__(self) -> None:
        self._objects: dict[Place, _Packed] = {}
        self._places: defaultdict[Key, set[Place]] = defaultdict(set)

    def put(self, kind: Kind, body: Mapping[str, Any]) -> Key | None:
        """Take an object in, unless a newer version is there.

        Returns:
            The pipeline that it belongs or belonged to; None if nothing changed or it belongs to none.
        """
        place, version = place_of(kind, body), _version(body)
        key = pipeline_of(body)
        standing = self._objects.get(place)
        if standing is not None and standing.version >= version:
            return None
        if key is None:  # somebody took the label away: its pipeline has to put it back
            return self.drop(place)
        if standing is not None and standing.pipeline != key:
            self._places[standing.pipeline].discard(place)
        self._objects[place] = _Packed(version, key, msgspec.json.encode(reduced(kind, body)))
        self._places[key].add(place)
        return key

    def drop(self, place: Place, version: int | None = None) -> Key | None:
        """Forget an object that is gone; a version older than what is there changes nothing."""
        standing = self._objects.get(place)
        if standing is None or (version is not None and standing.version > version):
            return None
        del self._objects[place]
        places = self._places[standing.pipeline]
        places.discard(place)
        if not places:
            del self._places[standing.pipeline]
        return standing.pipeline

    def get(self, place: Place) -> dict[str, Any] | None:
        """Return an object as it stands."""
        packed = self._objects.get(place)
        return None if packed is None else msgspec.json.decode(packed.body)

    def places(self, kind: Kind, namespaces: tuple[str, ...] = ()) -> list[Place]:
        """Return all places of a kind, in some namespaces or all."""
        return [
            place
            for place in self._objects
            if place.kind == kind.name and (not namespaces or place.namespace in namespaces)
        ]

    def of(self, key: Key) -> Iterator[tuple[Place, dict[str, Any]]]:
        """Yield what belongs to a pipeline."""
        for place in sorted(self._places.get(key, ())):
            yield place, msgspec.json.decode(self._objects[place].body)

    def __len__(self) -> int:
        return len(self._objects)


def place_of(kind: Kind, body: Mapping[str, Any]) -> Place:
    """Return where an object stands."""
    metadata = body["metadata"]
    return Place(kind.name, metadata.get("namespace", ""), metadata["name"])


def pipeline_of(body: Mapping[str, Any]) -> Key | None:
    """Return the pipeline that an object's label names."""
    metadata = body["metadata"]
    name = metadata.get("labels", {}).get(PIPELINE_LABEL)
    return None if name is None else Key(metadata.get("namespace", ""), name)


def owner_uid(body: Mapping[str, Any]) -> str | None:
    """Return the uid of an object's controller."""
    owners = body["metadata"].get("ownerReferences", ())
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)


def version_of(body: Mapping[str, Any]) -> int:
    """Return the resource version: ordered within a kind, since Kubernetes 1.35 by contract and before in practice."""
    return _version(body)


def _version(body: Mapping[str, Any]) -> int:
    return int(body["metadata"].get("resourceVersion") or 0)


def reduced(kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return of an object what the operator reads: never the managed fields, of a pod hardly more than its status."""
    metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    if kind == POD:
        status = {name: value for name, value in body.get("status", {}).items() if name in _POD_FIELDS}
        kept = {
            name: metadata[name] for name in ("name", "namespace", "labels", "deletionTimestamp") if name in metadata
        }
        return {"metadata": kept, "status": status}
    dropped = () if kind == DEPLOYMENT else ("status",)
    typed = {"apiVersion": kind.api_version, "kind": kind.name}  # items of lists come without
    return typed | {name: value for name, value in body.items() if name not in dropped} | {"metadata": metadata}
