"""What the sinks say of their commits to whoever only looks at Kafka: the metadata of the group `committed_group`.

Per partition the group's offset is the table's `next`, and its metadata is this small JSON. Written by the sink, read
by the operator and the command line, which need open no table for a lag. A signal only: nothing decides on it about
data, it may be late, and it may be missing. Pure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class CommitSignal:
    """One commit, as it is told.

    Args:
        committed_at: When the commit was confirmed, UTC.
        newest_event_time: Of the commit's rows, UTC; None where it had none, or nobody remembers.
    """

    committed_at: datetime
    newest_event_time: datetime | None

    def dump(self) -> str:
        """Return it as JSON with RFC 3339 times: some 100 bytes of the 4,096 that Kafka takes by default."""
        newest = self.newest_event_time
        document = {
            "committed_at": _text(self.committed_at),
            "newest_event_time": None if newest is None else _text(newest),
        }
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str | None) -> CommitSignal | None:
        """Return the signal in a group's metadata, or None if it holds anything else: signals are not errors."""
        try:
            document = json.loads(text or "")
            newest = document["newest_event_time"]
            return cls(_moment(document["committed_at"]), None if newest is None else _moment(newest))
        except (ValueError, KeyError, TypeError):
            return None


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
