"""Table and log together over real HTTP, each record once, and what is missing said, against sets of what went in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from k2_core.state import CommitState, LedgerEntry
from k2_core.types import Offset, Partition
from support.api import Api, commit, serve, wait_healthy, wait_snapshot
from support.query import BASE, World, ids, make_record, make_records, table_rows
from support.waiting import wait_until

pytestmark = pytest.mark.kafka


def test_answers_from_table_and_log_together_each_record_once(world: World, api: Api) -> None:
    first = make_records("BTCUSDT", 1, 300, BASE) + make_records("ETHUSDT", 1, 200, BASE)
    world.produce(first)
    commit(world, api)
    second = make_records("BTCUSDT", 301, 150, BASE + timedelta(seconds=3))
    world.produce(second)

    body = api.whole("/v1/trades", symbol="BTCUSDT", limit=10_000)

    assert [row["message_id"] for row in body["data"]] == ids(first + second)
    assert body["meta"]["rows"] == {"lake": 300, "tail": 150, "ledger": 0}
    assert body["meta"]["snapshot_id"] == str(world.head_id())
    assert body["meta"]["query_time_ms"] > 0


def test_reads_what_was_acknowledged_a_moment_ago(world: World, api: Api) -> None:
    for number in range(1, 40):
        world.produce([make_record("BTCUSDT", number, BASE + timedelta(seconds=number))])
        assert len(api.ids()) == number


def test_what_was_just_acknowledged_is_mostly_there_when_first_asked_for(world: World, api: Api) -> None:
    whole = []
    for number in range(1, 21):
        world.produce([make_record("BTCUSDT", number, BASE + timedelta(seconds=number))])
        body = api.once("/v1/trades", symbol="BTCUSDT")
        whole.append(body["meta"]["complete"] and len(body["data"]) == number)
    assert sum(whole) >= 10, whole  # a machine that stands still makes single answers short


def test_a_copy_in_the_log_gives_way_to_the_table_s(world: World, api: Api) -> None:
    first = make_records("BTCUSDT", 1, 50, BASE)
    world.produce(first)
    commit(world, api)
    again = [record | {"side": None} for record in first[20:]]
    new = make_records("BTCUSDT", 51, 10, BASE + timedelta(seconds=1))
    world.produce(again + new + new[:3])

    body = api.whole("/v1/trades", symbol="BTCUSDT")

    assert [row["message_id"] for row in body["data"]] == ids(first + new)
    assert [row["side"] for row in body["data"][:50]] == [record["side"] for record in first]
    assert body["meta"]["rows"] == {"lake": 50, "tail": 10, "ledger": 0}


def test_while_a_sink_commits_every_answer_holds_all_that_was_acknowledged(world: World, api: Api) -> None:
    over = threading.Event()
    acknowledged = [0]
    problems: list[str] = []

    def ask() -> None:
        while not over.is_set():
            floor = acknowledged[0]
            body = api.get("/v1/trades", symbol="BTCUSDT", limit=10_000)
            numbers = [row["sequence"] for row in body["data"]]
            if numbers != list(range(1, len(numbers) + 1)) or len(numbers) < floor or not body["meta"]["complete"]:
                problems.append(f"{len(numbers)} rows after {floor} were acknowledged: {body['meta']}")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for number in range(40):
            world.produce(make_records("BTCUSDT", number * 50 + 1, 50, BASE + timedelta(seconds=number)))
            acknowledged[0] = (number + 1) * 50
            if number % 4 == 3:
                world.commit({at: Offset(max(0, end - 20)) for at, end in world.ends().items()})
    finally:
        over.set()
        asking.join()
    assert not problems


def test_what_the_ledger_owes_is_read_from_the_log(world: World, api: Api) -> None:
    records = make_records("BTCUSDT", 1, 30, BASE)
    [*_, last] = world.produce(records)
    entry = LedgerEntry(world.topic, last.partition, Offset(10), Offset(30), ("BTCUSDT",), 2, "load", 20)
    commit(world, api, deferred=[entry])
    world.produce(make_records("BTCUSDT", 31, 5, BASE + timedelta(seconds=1)))

    body = api.whole("/v1/trades", symbol="BTCUSDT")

    assert [row["sequence"] for row in body["data"]] == list(range(1, 36))
    assert body["meta"]["rows"] == {"lake": 10, "tail": 5, "ledger": 20}
    alone = api.get("/v1/trades", symbol="BTCUSDT", source="lake")
    assert not alone["meta"]["complete"]
    assert alone["meta"]["incomplete_ranges"][0]["reason"] == "deferred_to_ledger"
    assert api.whole("/v1/trades", symbol="ETHUSDT")["data"] == []


def test_what_the_log_no_longer_has_is_read_from_raw_files(world: World, api: Api) -> None:
    placed = world.produce(make_records("BTCUSDT", 1, 30, BASE))
    entry = LedgerEntry(world.topic, placed[-1].partition, Offset(10), Offset(30), ("BTCUSDT",), 3, "load", 20)
    first = world.defer(placed[10:20], entry)
    entry = world.defer(placed[20:], entry, first.raw_file)
    commit(world, api, deferred=[entry])
    world.produce(make_records("BTCUSDT", 31, 5, BASE + timedelta(seconds=1)))
    world.trim(entry.partition, 25)
    wait_until(lambda: api.get("/v1/trades", symbol="BTCUSDT")["meta"]["rows"]["ledger"] == 20, "the log's start")

    body = api.whole("/v1/trades", symbol="BTCUSDT")

    assert [row["sequence"] for row in body["data"]] == list(range(1, 36))
    assert body["meta"]["rows"] == {"lake": 10, "tail": 5, "ledger": 20}
    assert api.whole("/v1/trades", symbol="ETHUSDT")["data"] == []


def test_a_raw_file_that_is_gone_makes_an_answer_incomplete_and_is_named(world: World, api: Api) -> None:
    placed = world.produce(make_records("BTCUSDT", 1, 30, BASE))
    entry = LedgerEntry(world.topic, placed[-1].partition, Offset(10), Offset(30), ("BTCUSDT",), 3, "load", 20)
    entry = world.defer(placed[10:], entry)
    commit(world, api, deferred=[entry])
    [path] = world.folder.rglob("*.raw/*.raw")
    path.unlink()
    assert len(api.ids()) == 30  # the log still has it
    world.trim(entry.partition, 30)
    wait_until(lambda: not api.get("/v1/trades", symbol="BTCUSDT")["meta"]["complete"], "the log's start")

    body = api.get("/v1/trades", symbol="BTCUSDT")

    assert [row["sequence"] for row in body["data"]] == list(range(1, 11))
    assert body["meta"]["incomplete_ranges"] == [
        {
            "topic": world.topic,
            "partition": entry.partition,
            "start": 10,
            "end": 30,
            "reason": "raw_file_not_read",
        }
    ]
    assert any(path.name in warning for warning in body["meta"]["warnings"])


def test_what_the_codec_refuses_is_skipped_as_the_sink_does(world: World, api: Api) -> None:
    good = make_records("BTCUSDT", 1, 3, BASE)
    world.produce(good[:1])
    world.produce_raw([b"", b"garbage", b"\x00\x00\x00\x00\x07unknown"])
    world.produce([*good[1:], make_record("BTCUSDT", 9, BASE, price=Decimal("-1.00000000"))])
    assert api.ids() == ids(good)
    assert "k2_query_tail_rejected_total 4.0" in api.client.get("/metrics").text


def test_a_topic_that_was_made_again_is_said_and_not_mixed_in(world: World, api: Api) -> None:
    world.produce(make_records("BTCUSDT", 1, 10, BASE))
    commit(world, api)
    before = world.topic_id
    admin = AdminClient({"bootstrap.servers": world.bootstrap_servers})
    admin.delete_topics([world.topic])[world.topic].result(20)

    def recreated() -> bool:
        world.admin.ensure_topics({world.topic: world.partitions})
        found = world.admin.describe_topics([world.topic])
        return world.topic in found and found[world.topic][0] != before

    wait_until(lambda: world.topic not in world.admin.describe_topics([world.topic]), "the topic to be gone")
    wait_until(recreated, "the topic to be back")
    world.produce(make_records("BTCUSDT", 100, 20, BASE + timedelta(seconds=5)))

    def said() -> dict[str, Any] | None:
        body = api.get("/v1/trades", symbol="BTCUSDT")
        gaps = body["meta"]["incomplete_ranges"]
        return body if any(gap["reason"] == "topic_recreated" for gap in gaps) else None

    body = wait_until(said, "the new topic to be noticed")
    assert [row["sequence"] for row in body["data"]] == list(range(1, 11))
    assert body["meta"]["complete"] is False
    assert body["meta"]["incomplete_ranges"][0] == {
        "topic": world.topic,
        "partition": None,
        "start": None,
        "end": None,
        "reason": "topic_recreated",
    }
    assert any("k2 adopt-topic" in warning for warning in body["meta"]["warnings"])


def test_records_that_left_the_log_before_a_commit_are_said_to_be_missing(world: World, api: Api) -> None:
    [*_, last] = world.produce(make_records("BTCUSDT", 1, 10, BASE))
    commit(world, api)
    world.produce(make_records("BTCUSDT", 11, 10, BASE + timedelta(seconds=1)))
    admin = AdminClient({"bootstrap.servers": world.bootstrap_servers})
    from confluent_kafka import TopicPartition

    at = TopicPartition(world.topic, last.partition, 15)
    admin.delete_records([at])[at].result(20)

    def said() -> dict[str, Any] | None:
        meta: dict[str, Any] = api.get("/v1/trades", symbol="BTCUSDT")["meta"]
        return meta if [gap["reason"] for gap in meta["incomplete_ranges"]] == ["removed_from_log"] else None

    meta = wait_until(said, "the loss to be noticed")
    assert meta["incomplete_ranges"] == [
        {"topic": world.topic, "partition": last.partition, "start": 10, "end": 15, "reason": "removed_from_log"}
    ]


def test_a_table_without_a_usable_state_is_read_alone_and_says_so(world: World, api: Api) -> None:
    logged = world.produce(make_records("BTCUSDT", 1, 10, BASE))
    world.write(table_rows(logged[:4]), None)
    wait_snapshot(api, world.head_id())
    body = api.get("/v1/trades", symbol="BTCUSDT")
    assert len(body["data"]) == 4
    assert body["meta"]["complete"] is False
    assert body["meta"]["incomplete_ranges"][0]["reason"] == "commit_state_unusable"
    assert "found no k2.state" in body["meta"]["warnings"][0]


def test_a_rollback_takes_the_tail_back_with_it(world: World, api: Api) -> None:
    world.produce(make_records("BTCUSDT", 1, 10, BASE))
    commit(world, api)
    world.produce(make_records("BTCUSDT", 11, 10, BASE + timedelta(seconds=1)))
    commit(world, api)
    table = world.catalog.load_table((world.namespace, "trades"))
    older = table.snapshots()[0].snapshot_id
    table.manage_snapshots().rollback_to_snapshot(older).commit()
    wait_snapshot(api, older)

    def whole() -> bool:
        body = api.get("/v1/trades", symbol="BTCUSDT")
        assert not body["meta"]["complete"] or len(body["data"]) == 20
        return bool(body["meta"]["complete"]) and body["meta"]["rows"]["tail"] == 10

    wait_until(whole, "the tail to be read again")


@pytest.fixture
def late(world: World) -> Iterator[Api]:
    """The service over a world that has neither topic nor table yet."""
    with serve(world.settings, world.pipeline) as running:
        yield running


def test_starts_before_topic_and_table_and_picks_them_up(world: World, late: Api) -> None:
    wait_until(lambda: late.client.get("/health").status_code == 200, "health without a topic")
    body = late.get("/v1/trades", symbol="BTCUSDT")
    assert body["data"] == []
    assert any("table does not exist yet" in warning for warning in body["meta"]["warnings"])
    assert any("does not exist yet" in warning and world.topic in warning for warning in body["meta"]["warnings"])
    assert late.get("/v1/symbols")["data"] == []
    world.create_topic()
    world.produce(make_records("BTCUSDT", 1, 5, BASE))
    wait_until(lambda: len(late.get("/v1/trades", symbol="BTCUSDT")["data"]) == 5, "the topic to be followed")
    world.commit()
    wait_snapshot(late, world.head_id())
    world.produce(make_records("BTCUSDT", 6, 5, BASE + timedelta(seconds=1)))
    assert len(late.ids()) == 10


def test_says_that_the_newest_commit_is_old(world: World) -> None:
    world.create_topic()
    query = world.pipeline.spec.query.model_copy(update={"commit_lag_seconds": 0.001})
    spec = world.pipeline.spec.model_copy(update={"query": query})
    with serve(world.settings, world.pipeline.model_copy(update={"spec": spec})) as api:
        wait_healthy(api)
        world.produce(make_records("BTCUSDT", 1, 5, BASE))
        commit(world, api)
        world.produce(make_records("BTCUSDT", 6, 5, BASE))
        warnings = api.get("/v1/trades", symbol="BTCUSDT")["meta"]["warnings"]
    assert any("the newest commit is" in warning for warning in warnings)


def test_a_state_of_another_cluster_is_not_followed(world: World, api: Api) -> None:
    world.produce(make_records("BTCUSDT", 1, 10, BASE))
    state = replace(world.commit(), cluster_id="another")
    world.write(table_rows([]), state)
    wait_snapshot(api, world.head_id())
    body = api.get("/v1/trades", symbol="BTCUSDT")
    assert len(body["data"]) == 10
    assert body["meta"]["incomplete_ranges"][0]["reason"] == "other_cluster"


def test_partitions_of_the_state_that_the_topic_lacks_do_no_harm(world: World, api: Api) -> None:
    world.produce(make_records("BTCUSDT", 1, 10, BASE))
    commit(world, api, upto=world.ends() | {Partition(9): Offset(5)})
    assert len(api.ids()) == 10
    assert isinstance(world.state, CommitState)
