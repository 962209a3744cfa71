from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_operator.plan import Plan, Standing, Step, plan

RUNNING = Standing(
    deleting=False,
    suspend=False,
    skip_drain=False,
    ran=True,
    was_suspended=False,
    ingest_gone=False,
    sink_gone=False,
    query_gone=False,
    trino_gone=False,
    children_gone=False,
    drained=False,
)
STOPPING = replace(RUNNING, suspend=True)
INGEST_GONE = replace(RUNNING, suspend=True, ingest_gone=True)
DRAINED = replace(INGEST_GONE, drained=True)
STANDINGS = st.builds(
    Standing,
    *(st.booleans() for _ in range(10)),
    st.sampled_from([True, False, None]),
    *(st.booleans() for _ in range(5)),
)
REMOVING = replace(
    DRAINED, deleting=True, suspend=False, sink_gone=True, query_gone=True, trino_gone=True, removes=True
)


@pytest.mark.parametrize(
    ("standing", "expected"),
    [
        pytest.param(RUNNING, Plan(Step.RUN, ingest=True, sink=True, query=True), id="runs"),
        pytest.param(
            replace(RUNNING, suspend=True),
            Plan(Step.STOP_INGEST, ingest=False, sink=True, query=True),
            id="ingest",
        ),
        pytest.param(INGEST_GONE, Plan(Step.DRAIN, ingest=False, sink=True, query=True), id="drain"),
        pytest.param(
            replace(INGEST_GONE, drained=None),
            Plan(Step.DRAIN, ingest=False, sink=True, query=True),
            id="unknown",
        ),
        pytest.param(DRAINED, Plan(Step.STOP_SINK, ingest=False, sink=False, query=True), id="stop sink"),
        pytest.param(
            replace(DRAINED, sink_gone=True), Plan(Step.STOP_QUERY, ingest=False, sink=False, query=False), id="query"
        ),
        pytest.param(
            replace(DRAINED, sink_gone=True, query_gone=True),
            Plan(Step.STOP_TRINO, ingest=False, sink=False, query=False),
            id="trino",
        ),
        pytest.param(
            replace(DRAINED, sink_gone=True, query_gone=True, trino_gone=True),
            Plan(Step.SUSPENDED, ingest=False, sink=False, query=False),
            id="suspended",
        ),
        pytest.param(
            replace(DRAINED, sink_gone=True, query_gone=True, trino_gone=True, deleting=True),
            Plan(Step.REMOVE, ingest=False, sink=False, query=False),
            id="remove",
        ),
        pytest.param(
            replace(DRAINED, sink_gone=True, query_gone=True, trino_gone=True, deleting=True, children_gone=True),
            Plan(Step.RELEASE, ingest=False, sink=False, query=False),
            id="release",
        ),
        pytest.param(
            replace(REMOVING, maintenance_gone=False),
            Plan(Step.STOP_MAINTENANCE, ingest=False, sink=False, query=False),
            id="maintenance",
        ),
        pytest.param(REMOVING, Plan(Step.REMOVE_TABLES, ingest=False, sink=False, query=False), id="tables"),
        pytest.param(
            replace(REMOVING, removing=True, tables_removed=True),
            Plan(Step.REMOVE_TOPICS, ingest=False, sink=False, query=False),
            id="topics",
        ),
        pytest.param(
            replace(REMOVING, removing=True, tables_removed=True, topics_removed=True),
            Plan(Step.REMOVE, ingest=False, sink=False, query=False),
            id="all is gone",
        ),
        pytest.param(
            replace(REMOVING, removing=True, removes=False),
            Plan(Step.REMOVE, ingest=False, sink=False, query=False),
            id="the policy was changed half way",
        ),
        pytest.param(
            replace(REMOVING, deleting=False, suspend=True),
            Plan(Step.SUSPENDED, ingest=False, sink=False, query=False),
            id="suspend removes nothing",
        ),
        pytest.param(
            replace(REMOVING, removing=True, drained=None),
            Plan(Step.REMOVE_TABLES, ingest=False, sink=False, query=False),
            id="what is half gone is not drained again",
        ),
        pytest.param(
            replace(REMOVING, removing=True, sink_gone=False),
            Plan(Step.STOP_QUERY, ingest=False, sink=False, query=False),
            id="a sink that somebody started meanwhile",
        ),
        pytest.param(
            replace(INGEST_GONE, sink_gone=True),
            Plan(Step.DRAIN, ingest=False, sink=True, query=True),
            id="a sink that is gone too soon is needed again",
        ),
        pytest.param(
            replace(INGEST_GONE, sink_gone=True, query_gone=True, trino_gone=True, was_suspended=True),
            Plan(Step.SUSPENDED, ingest=False, sink=False, query=False),
            id="suspended stays suspended",
        ),
        pytest.param(
            replace(INGEST_GONE, ran=False), Plan(Step.STOP_SINK, ingest=False, sink=False, query=True), id="never ran"
        ),
        pytest.param(
            replace(INGEST_GONE, skip_drain=True),
            Plan(Step.STOP_SINK, ingest=False, sink=False, query=True),
            id="forced",
        ),
    ],
)
def test_steps(standing: Standing, expected: Plan) -> None:
    assert plan(standing) == expected


@given(STANDINGS)
def test_nothing_stops_before_what_it_feeds_on_has_ended(standing: Standing) -> None:
    due = plan(standing)
    assert due.ingest <= due.sink <= due.query <= due.trino
    stopping = standing.deleting or standing.suspend
    assert due.ingest is not stopping
    if standing.removing and stopping:
        assert not due.query
        return
    if not due.sink:
        assert standing.ingest_gone
    if not due.query:
        assert standing.ingest_gone
        assert standing.sink_gone
    if not due.trino:
        assert standing.query_gone


@given(STANDINGS)
def test_a_sink_that_ran_stops_only_when_all_is_in_the_table(standing: Standing) -> None:
    due = plan(standing)
    excused = (
        standing.removing or standing.skip_drain or not standing.ran or (standing.was_suspended and standing.sink_gone)
    )
    if not due.sink and not excused:
        assert standing.drained is True


@given(STANDINGS)
def test_only_what_is_deleted_and_gone_is_released(standing: Standing) -> None:
    if plan(standing).step is Step.RELEASE:
        assert standing.deleting
        assert standing.children_gone


@given(STANDINGS)
def test_nothing_is_removed_but_with_its_pipeline_and_tables_before_topics(standing: Standing) -> None:
    step = plan(standing).step
    if step in {Step.STOP_MAINTENANCE, Step.REMOVE_TABLES, Step.REMOVE_TOPICS}:
        assert standing.deleting
        assert standing.removes
        assert standing.ingest_gone
        assert standing.sink_gone
        assert standing.query_gone
        assert standing.trino_gone
    if step is Step.REMOVE_TABLES:
        assert standing.maintenance_gone
    if step is Step.REMOVE_TOPICS:
        assert standing.tables_removed
    if step is Step.RELEASE and standing.removes:
        assert standing.tables_removed
        assert standing.topics_removed


@pytest.mark.parametrize(("deleting", "ran", "removes"), list(product([True, False], repeat=3)), ids=str)
def test_every_stop_ends(deleting: bool, ran: bool, removes: bool) -> None:
    """Each step's effect makes the next one due."""
    standing = replace(
        RUNNING, deleting=deleting, suspend=not deleting, ran=ran, removes=deleting and removes, maintenance_gone=False
    )
    effects = [
        {"ingest_gone": True},
        {"drained": True},
        {"sink_gone": True},
        {"query_gone": True},
        {"trino_gone": True},
        {"maintenance_gone": True},
        {"removing": True},
        {"tables_removed": True},
        {"topics_removed": True},
        {"children_gone": True},
    ]
    steps = [plan(standing).step]
    for effect in effects:
        standing = replace(standing, **effect)
        steps.append(plan(standing).step)
    assert steps[-1] is (Step.RELEASE if deleting else Step.SUSPENDED)
    assert steps[0] is Step.STOP_INGEST
