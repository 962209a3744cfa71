"""A K2Pipeline as an object of the cluster: who it is, whether it is to go, what its status says.

Read from what Kopf's watch brought; called by `reconcile`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from k2_operator.names import FINALIZER, FORCE_DELETE
from k2_operator.store import Key

FOREGROUND: Final = "foregroundDeletion"
NEVER_RAN: Final = frozenset({"", "Pending", "Failed"})


@dataclass(frozen=True, slots=True)
class Resource:
    """What the operator reads of a K2Pipeline beside its spec.

    Args:
        key: Namespace and name.
        uid: Of the resource.
        generation: Of the spec.
        version: For writes that must not meet another's.
        deleting: Whether somebody deleted it.
        suspend: What `spec.suspend` says, even where the rest of the spec is wrong.
        finalizers: All of them.
        forced: Whether the annotation says to skip the drain.
        removes: Whether `spec.deletionPolicy` says Delete, even where the rest of the spec is wrong.
        status: What stands there.
    """

    key: Key
    uid: str
    generation: int
    version: str
    deleting: bool
    suspend: bool
    finalizers: tuple[str, ...]
    forced: bool
    removes: bool
    status: Mapping[str, Any]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Resource:
        """Read a body."""
        metadata = body["metadata"]
        return cls(
            key=Key(metadata["namespace"], metadata["name"]),
            uid=metadata["uid"],
            generation=metadata.get("generation", 1),
            version=metadata["resourceVersion"],
            deleting="deletionTimestamp" in metadata,
            suspend=body.get("spec", {}).get("suspend") is True,
            finalizers=tuple(metadata.get("finalizers", ())),
            forced=(metadata.get("annotations") or {}).get(FORCE_DELETE) == "true",
            removes=body.get("spec", {}).get("deletionPolicy") == "Delete",
            status=body.get("status") or {},
        )

    @property
    def held(self) -> bool:
        """Whether the operator's finalizer is there."""
        return FINALIZER in self.finalizers

    @property
    def phase(self) -> str:
        """The phase that its status says, "" for none."""
        return str(self.status.get("phase", ""))

    @property
    def was_suspended(self) -> bool:
        """Whether its status says that it is suspended."""
        return self.phase == "Suspended"

    @property
    def ran(self) -> bool:
        """Whether its status says that it ever ran."""
        return self.phase not in NEVER_RAN

    def says(self, condition: str) -> bool | None:
        """What its status says of a condition; None if nothing, or Unknown."""
        found = (one["status"] for one in self.status.get("conditions", ()) if one["type"] == condition)
        return {"True": True, "False": False}.get(next(found, ""))

    @property
    def skips_drain(self) -> bool:
        """Whether its deletion does not wait for the drain: by annotation, or as Kubernetes deletes the sink itself.

        With `--cascade=foreground` the garbage collector deletes children while the owner waits; each sink still drains
        when its pod is told to end.
        """
        return self.deleting and (self.forced or FOREGROUND in self.finalizers)
