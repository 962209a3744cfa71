"""Which of a pipeline's parts may run now: the order of stopping, decided from what is observed and nothing else.

    running ──(suspend or delete)──▶ ingestion stops ──▶ the sink drains ──▶ the sink stops ──▶ the query service stops
       ▲                                                                                                 │
       │                                                                       Trino stops, where the operator runs one
       │                                                                                                 │
       │                                        (delete, policy Delete) maintenance stops ─▶ tables go ─▶ topics go
       │                                                                                                 │
       └────(suspend: false)───── suspended ◀──(suspend)───────────────────────────────(delete)──▶ children go ─▶ gone

Called by `reconcile`. Nothing is remembered from one call to the next, so the operator may die at any step. Pure.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class Step(enum.Enum):
    """Where a pipeline stands between running and gone."""

    RUN = "Run"
    STOP_INGEST = "StoppingIngestion"
    DRAIN = "Draining"
    STOP_SINK = "StoppingSink"
    STOP_QUERY = "StoppingQuery"
    STOP_TRINO = "StoppingTrino"
    SUSPENDED = "Suspended"
    STOP_MAINTENANCE = "StoppingMaintenance"
    REMOVE_TABLES = "RemovingTables"
    REMOVE_TOPICS = "RemovingTopics"
    REMOVE = "RemovingChildren"
    RELEASE = "Released"

    @property
    def sinks_run(self) -> bool:
        """Whether sinks run there, and so somebody has to decide about them."""
        return self in {Step.RUN, Step.STOP_INGEST, Step.DRAIN}


REMOVING: Final = frozenset({Step.STOP_MAINTENANCE, Step.REMOVE_TABLES, Step.REMOVE_TOPICS})
"""Nothing of the pipeline runs, and what it made goes."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is observed of one pipeline.

    Args:
        deleting: Whether it is being deleted.
        suspend: Whether it is to be suspended.
        skip_drain: Somebody said that the drain is to be skipped, or Kubernetes deletes the children itself.
        ran: Whether it ever ran: its status says so, or its sink is there. What never ran has nothing to drain.
        was_suspended: Whether its status says that it is suspended already.
        ingest_gone: No ingest is asked for and no pod of one is left.
        sink_gone: The same of the sink.
        query_gone: The same of the query service.
        trino_gone: The same of a Trino that the operator runs; true where there is none.
        children_gone: No child is left at all.
        drained: Whether everything in the log at the time the ingest ended is in the table, what levels had put off
            included; None means unknown.
        removes: Its tables and topics are to go with it.
        removing: That has begun, and may be half done: nothing of it may run again.
        maintenance_gone: Nothing maintains its tables, and nothing will.
        tables_removed: Its status says that its tables are gone.
        topics_removed: Its status says that its topics are gone.
    """

    deleting: bool
    suspend: bool
    skip_drain: bool
    ran: bool
    was_suspended: bool
    ingest_gone: bool
    sink_gone: bool
    query_gone: bool
    trino_gone: bool
    children_gone: bool
    drained: bool | None
    removes: bool = False
    removing: bool = False
    maintenance_gone: bool = True
    tables_removed: bool = False
    topics_removed: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What may run.

    Args:
        step: Where the pipeline stands.
        ingest: Whether its ingests run.
        sink: Whether its sinks run.
        query: Whether its query service runs.
    """

    step: Step
    ingest: bool
    sink: bool
    query: bool

    @property
    def trino(self) -> bool:
        """Whether a Trino that the operator runs does so: until the query service, which reads with it, is gone."""
        return self.query or self.step is Step.STOP_QUERY


def plan(standing: Standing) -> Plan:
    """Return the one step that is due."""
    if not (standing.deleting or standing.suspend):
        return Plan(Step.RUN, ingest=True, sink=True, query=True)
    if standing.removing:  # a sink would make its tables anew, and fill them from what is left of the log
        return _stopped(standing)
    if not standing.ingest_gone:
        return Plan(Step.STOP_INGEST, ingest=False, sink=True, query=True)
    if _must_drain(standing):
        return Plan(Step.DRAIN, ingest=False, sink=True, query=True)
    if not standing.sink_gone:
        return Plan(Step.STOP_SINK, ingest=False, sink=False, query=True)
    return _stopped(standing)


def _must_drain(standing: Standing) -> bool:
    """Whether the sink has to go on: unknown is no reason to stop it, a sink that is gone already may be needed again.

    A suspended pipeline stays suspended: another pipeline may write to the same topic for as long as it likes.
    """
    if standing.skip_drain or not standing.ran or (standing.was_suspended and standing.sink_gone):
        return False
    return standing.drained is not True


def _stopped(standing: Standing) -> Plan:
    if not (standing.ingest_gone and standing.sink_gone and standing.query_gone):
        step = Step.STOP_QUERY
    elif not standing.trino_gone:
        step = Step.STOP_TRINO
    elif not standing.deleting:
        step = Step.SUSPENDED
    elif standing.removes and not (standing.tables_removed and standing.topics_removed):
        step = _removing(standing)
    else:
        step = Step.RELEASE if standing.children_gone else Step.REMOVE
    return Plan(step, ingest=False, sink=False, query=False)


def _removing(standing: Standing) -> Step:
    """Tables first: what is cut short leaves the log, from which they can be made again, and never tables alone.

    Each goes on to the next once the status says that it is done: by then the Job that knew it may be gone.
    """
    if not standing.maintenance_gone and not standing.tables_removed:
        return Step.STOP_MAINTENANCE
    return Step.REMOVE_TOPICS if standing.tables_removed else Step.REMOVE_TABLES
