"""Events on K2Pipelines: one for each change of phase or of a condition's reason, none for what stays. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from k2_operator.names import MANAGER, PIPELINE
from k2_operator.status import moment

LONGEST_MESSAGE: Final = 1_000
"""The API server takes 1,024 bytes."""
_QUIET: Final = frozenset({"Missing", "Starting", "Removing"})
"""Every start, and every removal, passes through these."""
_BAD_PHASES: Final = frozenset({"Degraded", "Failed"})


def changes(previous: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield type, reason and message of each change that is worth an Event."""
    if new["phase"] != previous.get("phase"):
        kind = "Warning" if new["phase"] in _BAD_PHASES else "Normal"
        yield kind, new["phase"], f"phase {previous.get('phase') or 'none'} to {new['phase']}"
    engines = [status.get("query", {}).get("engine") for status in (previous, new)]
    if None not in engines and engines[0] != engines[1]:
        yield "Normal", "EngineChanged", f"the query service's mode {engines[0]} to {engines[1]}"
    before = {one["type"]: one["reason"] for one in previous.get("conditions", ())}
    for one in new["conditions"]:
        # Ready repeats the others; what is unknown, and what is as it should be from the start, is no news.
        news = one["type"] in before or one["status"] == "False"
        quiet = one["type"] == "Ready" or one["status"] == "Unknown" or one["reason"] in _QUIET
        if quiet or not news or before.get(one["type"]) == one["reason"]:
            continue
        text = f"{one['type']}: {one['message'] or one['reason']}"
        yield ("Normal" if one["status"] == "True" else "Warning"), one["reason"], text[:LONGEST_MESSAGE]


def event(body: Mapping[str, Any], kind: str, reason: str, message: str, now: datetime) -> dict[str, Any]:
    """Return an Event about a pipeline."""
    metadata = body["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": PIPELINE.api_version,
            "kind": PIPELINE.name,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": kind,
        "reason": reason,
        "message": message,
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "firstTimestamp": moment(now),
        "lastTimestamp": moment(now),
        "count": 1,
    }
