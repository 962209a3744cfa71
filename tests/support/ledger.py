"""What the rows of the table `ledger` add up to, for tests: the judge beside the commit state."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import pyarrow as pa

from k2_core.state import CommitState, LedgerEntry, Loss
from k2_core.types import Offset, Partition, TopicId, TopicName


def open_ledger(rows: pa.Table) -> Counter[LedgerEntry]:
    """Return the entries that rows add up to, made again from their columns; below zero where one is missing."""
    found: Counter[LedgerEntry] = Counter()
    for row in rows.to_pylist():
        if row["account"] == "owed":
            place = (TopicName(row["topic"]), Partition(row["kafka_partition"]), Offset(row["from_offset"]))
            assert row["owed_records"] % row["change"] == 0
            entry = LedgerEntry(
                *place,
                Offset(row["to_offset"]),
                tuple(row["symbols"]),
                row["level"],
                row["reason"],
                row["owed_records"] // row["change"],
                _milliseconds(row["since"]),
                _milliseconds(row["oldest"]),
                row["raw_file"],
            )
            found[entry] += row["change"]
    return Counter({entry: count for entry, count in found.items() if count})


def losses(rows: pa.Table) -> Counter[Loss]:
    """Return the losses that rows add up to, likewise."""
    found: Counter[Loss] = Counter()
    for row in rows.to_pylist():
        if row["account"] == "lost":
            end = None if row["to_offset"] is None else Offset(row["to_offset"])
            place = (TopicName(row["topic"]), TopicId(row["topic_id"]), Partition(row["kafka_partition"]))
            found[Loss(*place, Offset(row["from_offset"]), end, row["reason"])] += row["change"]
    return Counter({loss: count for loss, count in found.items() if count})


def adds_up_to(rows: pa.Table, state: CommitState) -> bool:
    """Check that rows add up to a state's ledger and losses, in every column; returns true for an `assert`."""
    assert open_ledger(rows) == Counter(state.open_ledger)
    assert losses(rows) == Counter(state.losses)
    by_topic = {row["topic"]: row["topic_id"] for row in rows.to_pylist() if row["account"] == "owed"}
    assert by_topic.keys() >= {entry.topic for entry in state.open_ledger}
    return True


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)
