"""How long a log that is bounded in bytes keeps what is owed, and how much of that is used up.

Kafka removes a partition's oldest segment once what comes after it is larger than `retention.bytes`: how many records
that are follows from the bytes of a record, and when it will be from the rate at which came what is owed. Called by the
controller for the outage budget and by the sink for what it drains ahead and keeps in raw files. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kept:
    """How long a log keeps records, beside the oldest of them that is owed.

    Args:
        retention_s: From the time when a record was written.
        age_s: Of the oldest one that is owed.
    """

    retention_s: float
    age_s: float

    @property
    def left_s(self) -> float:
        """Until the log may remove it, seconds; 0 if it may have."""
        return max(0.0, self.retention_s - self.age_s)


def capacity_records(limit_bytes: int, record_bytes: float) -> float:
    """Return how many of its newest records a partition keeps at least.

    Args:
        limit_bytes: Its `retention.bytes`, 0 or more.
        record_bytes: Of a record in the log, above 0.
    """
    return limit_bytes / record_bytes


def kept_by_size(age_s: float, behind: int, capacity: float) -> Kept:
    """Return how long a partition keeps records at the rate at which came what is owed of it.

    Args:
        age_s: Of the oldest record that is owed.
        behind: Records from that one to the partition's end, above 0.
        capacity: See `capacity_records`.
    """
    return Kept(age_s * capacity / behind, age_s)


def tightest(kept: Iterable[Kept]) -> Kept | None:
    """Return where the least time is left, or None of none."""
    return min(kept, key=lambda one: one.left_s, default=None)
