"""What adopting a table writes: the best witness of how far the log was taken in, made to agree with the rows.

Called by `k2 adopt`. The witnesses, best first: the state itself, where it is the head's; the summary of the newest
ancestor that has one; the positions that the rows carry.
"""

from __future__ import annotations

from dataclasses import dataclass

from k2_cli.lake import Lake
from k2_cli.recovery.rebuild import Rows, balanced, from_rows
from k2_cli.recovery.site import (
    Plan,
    Site,
    ancestors,
    count_rows,
    positions_shown,
    property_state,
    raised,
    read_rows,
    summary_state,
)
from k2_core.errors import StateError
from k2_core.state import PIPELINE_KEY, CommitState
from k2_sink.commit import read_head
from k2_sink.protocol import current_state


@dataclass(frozen=True, slots=True)
class Witness:
    """How far the log was taken in, and what says so."""

    state: CommitState
    source: str


def plan(site: Site, lake: Lake) -> Plan:
    """Return what adopting the table as it is now would write.

    Raises:
        StateError: Its rows contradict each other, so that no state would be true.
    """
    rows = read_rows(lake, site.pipeline.spec.namespace)
    trouble = _trouble(site, lake)
    witness = _witness(site, lake, rows, sound=not trouble)
    state = balanced(witness.state, rows)
    found = trouble or ["nothing that the sink would refuse"]
    does = [f"take the positions from {witness.source}"]
    does += [f"continue {positions_shown(state, name)}" for name in sorted(state.topics)]
    does += _difference(witness.state, state)
    owner = lake.table.properties.get(PIPELINE_KEY)
    if owner != site.uid:
        does.append(f"hand the table over from pipeline {owner or 'nobody'} to {site.uid}")
    does.append(f"keep all {count_rows(rows):,} rows, and raise the epoch: what sinks have in hand is read again")
    return Plan("adopt", found, does, raised(state, lake, "adopt"))


def _trouble(site: Site, lake: Lake) -> list[str]:
    """Return what the sink would refuse, apart from the cluster: that is for `k2 adopt-topic`."""
    known = property_state(lake)
    try:
        current_state(read_head(lake.table), site.uid, known.cluster_id if known is not None else "")
    except StateError as error:
        return [str(error).partition(";")[0]]
    return []


def _witness(site: Site, lake: Lake, rows: Rows, *, sound: bool) -> Witness:
    state = property_state(lake)
    if state is not None and (sound or _is_of_the_head(lake)):
        return Witness(state, "the table's property k2.state")
    for snapshot in ancestors(lake):
        if (found := summary_state(snapshot)) is not None:
            return Witness(found, f"the summary of snapshot {snapshot.snapshot_id}")
    with site.kafka() as admin:
        ids = {name: found for name, (found, _) in admin.describe_topics(set(rows.names.values())).items()}
        source = f"the rows' own log positions ({count_rows(rows):,} rows): nothing else is left"
        return Witness(from_rows(rows, admin.cluster_id(), ids), source)


def _is_of_the_head(lake: Lake) -> bool:
    """Whether the property speaks of this head: all that is wrong with the table is whose it is."""
    known = property_state(lake)
    owner = lake.table.properties.get(PIPELINE_KEY)
    try:
        current_state(read_head(lake.table), owner or "", known.cluster_id if known is not None else "")
    except StateError:
        return False
    return owner is not None


def _difference(before: CommitState, after: CommitState) -> list[str]:
    """Say what the rows made of a state that was taken from elsewhere."""
    lines = []
    for name, topic in sorted(after.topics.items()):
        known = before.topics[name].partitions if name in before.topics else {}
        unexplained = sum(one.unexplained for one in topic.partitions.values())
        unexplained -= sum(one.unexplained for one in known.values())
        further = sum(one.next - known[at].next for at, one in topic.partitions.items() if at in known)
        if unexplained:
            lines.append(f"count {unexplained:,} offsets of {name} that have no row as unexplained (see `k2 audit`)")
        if further:
            lines.append(f"skip {further:,} offsets of {name} that the state did not know and the table has rows of")
    return lines
