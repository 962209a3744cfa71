"""What accepting a topic's loss writes: the positions behind it, and the loss itself for everybody to see.

Called by `k2 adopt-topic`.
"""

from __future__ import annotations

from dataclasses import replace

from k2_cli.lake import Lake
from k2_cli.recovery.rebuild import TopicNow, entries_to_count, with_topic
from k2_cli.recovery.site import Plan, Site, raised, topics_now
from k2_core.errors import RawFileError, SpecError
from k2_core.kafka import KafkaAdmin
from k2_core.raw_files import RawFiles
from k2_core.state import CommitState, LedgerEntry, Loss
from k2_core.types import TopicName
from k2_sink.commit import read_head
from k2_sink.drain import RangeReader, count_owed
from k2_sink.protocol import current_state


def plan(site: Site, lake: Lake, admin: KafkaAdmin, names: list[TopicName], reason: str) -> Plan | None:
    """Return what accepting the loss would write, or None if nothing is lost.

    Raises:
        StateError: The table's state is not its head's (`k2 adopt` comes first), or the log lost what the table has.
        SpecError: A topic is not one of the table's, or does not cover the change of the whole cluster.
    """
    head = read_head(lake.table)
    before = current_state(head, site.uid, head.state.cluster_id if head.state is not None else "")
    cluster_id = admin.cluster_id()
    if cluster_id != before.cluster_id and (missing := sorted(before.topics.keys() - set(names))):
        raise SpecError("TOPIC", ", ".join(names), f"{', '.join(missing)} too, as all of them are of another cluster")
    unknown = [name for name in names if name not in before.topics]
    if unknown:
        raise SpecError("TOPIC", repr(unknown[0]), f"one that the table has: {', '.join(sorted(before.topics))}")
    wanted = site.pipeline.trades_topics()
    admin.ensure_topics({name: wanted[name] for name in names if name in wanted})
    now = topics_now(admin, names)
    after = replace(before, cluster_id=cluster_id)
    for name in names:
        if name not in now:
            raise SpecError("TOPIC", repr(name), "one that exists: this pipeline's file does not make it")
        after = _without_broken_files(after, RawFiles(lake.table.io, lake.table.location()), name, now[name])
        after = with_topic(after, name, _counted(site, after, admin, name, now[name]), reason)
    if after == before:
        return None
    found = [f"topic {name}: id {before.topics[name].id}, now {now[name].id}" for name in names]
    if cluster_id != before.cluster_id:
        found.append(f"Kafka cluster {before.cluster_id}, now {cluster_id}")
    does = [f"record as lost {_shown(loss)}" for loss in after.losses[len(before.losses) :]]
    does.append("keep all rows, and raise the epoch: what sinks have in hand is read again")
    return Plan("adopt-topic", found, does, raised(after, lake, "adopt-topic"))


def _without_broken_files(state: CommitState, files: RawFiles, name: TopicName, now: TopicNow) -> CommitState:
    """Return the state without raw files that cannot be read, where the log has lost something of their range, too."""
    ledger = [
        replace(entry, raw_file=None)
        if entry.topic == name
        and entry.raw_file is not None
        and now.starts.get(entry.partition, entry.start) > entry.start
        and _broken(files, entry)
        else entry
        for entry in state.open_ledger
    ]
    return replace(state, open_ledger=tuple(ledger))


def _broken(files: RawFiles, entry: LedgerEntry) -> bool:
    try:
        files.count(entry)
    except RawFileError:
        return True
    return False


def _counted(site: Site, state: CommitState, admin: KafkaAdmin, name: TopicName, now: TopicNow) -> TopicNow:
    """Count what the log still has of what is owed, if it is still the log that it was owed from."""
    entries = entries_to_count(state, name, now) if state.topics[name].id == now.id else {}
    if not entries:
        return now
    reader = RangeReader(admin.settings, site.pipeline.sink_group)
    try:
        return replace(now, left={entry: count_owed(reader, entry, start) for entry, start in entries.items()})
    finally:
        reader.close()


def _shown(loss: Loss) -> str:
    size = f"{loss.end - loss.start:,} offsets" if loss.end is not None else "an unknown number of offsets"
    return f"{loss.topic} partition {loss.partition} from {loss.start}: {size} (topic id {loss.topic_id})"
