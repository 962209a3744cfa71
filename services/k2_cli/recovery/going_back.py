"""What going back to an older snapshot writes: its rows and its state, as one new snapshot on top of it.

Called by `k2 rollback`. The snapshots in between stay listed until they expire: a rollback can be taken back.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from pyiceberg.table.snapshots import Operation, Snapshot

from k2_cli.lake import Lake
from k2_cli.recovery.rebuild import TopicNow, restored
from k2_cli.recovery.site import Plan, Site, property_state, raised, summary_state, topics_now
from k2_core.errors import KafkaUnavailableError, SpecError, StateError
from k2_core.kafka import KafkaAdmin
from k2_core.state import PIPELINE_KEY, CommitState
from k2_core.types import SnapshotId, TopicName
from k2_sink.protocol import adopt_topic

SHOWN_SNAPSHOTS: Final = 5


def find(lake: Lake, to: str) -> Snapshot:
    """Return the snapshot with an id, or the one that was the newest at a time.

    Raises:
        SpecError: There is none, or it is neither.
    """
    if to.isdecimal():
        found = lake.table.metadata.snapshot_by_id(int(to))
    else:
        found = lake.table.snapshot_as_of_timestamp(int(_moment(to).timestamp() * 1000))
    if found is None:
        newest = sorted(lake.table.metadata.snapshots, key=lambda one: one.timestamp_ms)[-SHOWN_SNAPSHOTS:]
        listed = ", ".join(f"{one.snapshot_id} of {_time(one)}" for one in newest)
        raise SpecError("--to", to, f"a snapshot that the table has (the newest are {listed})")
    return found


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise SpecError("--to", repr(text), "a snapshot's id or an ISO 8601 time") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def plan(site: Site, lake: Lake, target: Snapshot) -> Plan:
    """Return what going back to a snapshot would write.

    Raises:
        StateError: The table is another pipeline's, or nobody knows where in the log the snapshot stood.
    """
    owner = lake.table.properties.get(PIPELINE_KEY)
    if owner != site.uid:
        raise StateError(f"table owner: found pipeline {owner or 'nobody'}, expected {site.uid}; first: `k2 adopt`")
    head = property_state(lake)
    state = restored(_state_of(lake, target), head)
    before = lake.snapshot.snapshot_id if lake.snapshot is not None else None
    found = [f"the head, snapshot {before}, with {_rows(lake):,} rows"]
    old = Lake(lake.table, target)
    does = [f"give the table the {_rows(old):,} rows of snapshot {target.snapshot_id} of {_time(target)}"]
    does += _to_read_again(state, head)
    does += _log_warnings(site, state)
    does.append("raise the epoch: what sinks have in hand is read again")
    return Plan("rollback", found, does, raised(state, lake, "rollback"), SnapshotId(target.snapshot_id))


def _state_of(lake: Lake, target: Snapshot) -> CommitState:
    """Return a snapshot's state: its own, or that of an ancestor whose rows it has (another tool's compaction)."""
    walk: Snapshot | None = target
    while walk is not None:
        if (state := summary_state(walk)) is not None:
            return state
        rewritten = walk.summary is not None and walk.summary.operation is Operation.REPLACE
        parent = walk.parent_snapshot_id if rewritten else None
        walk = lake.table.metadata.snapshot_by_id(parent) if parent is not None else None
    raise StateError(
        f"snapshot {target.snapshot_id}: found no commit state, expected one that K2 wrote: "
        f"another tool made it, or its state has expired; choose another for `k2 rollback --to`"
    )


def _to_read_again(state: CommitState, head: CommitState | None) -> list[str]:
    lines = []
    for name, topic in sorted((head.topics if head is not None else {}).items()):
        then = state.topics[name].partitions
        count = sum(max(0, one.next - then[at].next) for at, one in topic.partitions.items() if at in then)
        lines.append(f"read {count:,} offsets of {name} again")
    return lines


def _log_warnings(site: Site, state: CommitState) -> list[str]:
    """Say where the log does not reach back that far, if Kafka can be asked without starting it."""
    if site.embedded_kafka:
        return ["leave it to the sink to find out whether the log reaches back that far: Kafka does not run now"]
    try:
        admin = KafkaAdmin(site.settings)
        now = topics_now(admin, state.topics)
    except KafkaUnavailableError:
        return ["leave it to the sink to find out whether the log reaches back that far: Kafka does not answer"]
    short = [name for name in sorted(state.topics) if _gone(state, name, now.get(name))]
    return [
        f"leave a loss: the log of {name} does not reach back that far, then: `{adopt_topic(name)}`" for name in short
    ]


def _gone(state: CommitState, name: TopicName, now: TopicNow | None) -> bool:
    topic = state.topics[name]
    if now is None or now.id != topic.id:
        return True
    return any(now.starts.get(at, one.next) > one.next for at, one in topic.partitions.items())


def _rows(lake: Lake) -> int:
    return sum(file.record_count for file in lake.files())


def _time(snapshot: Snapshot) -> str:
    return datetime.fromtimestamp(snapshot.timestamp_ms / 1000, tz=UTC).isoformat(timespec="milliseconds")
