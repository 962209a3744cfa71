"""Outages as the API shows them: each part away, and what is still answered."""

from __future__ import annotations

import uuid
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from k2_cli.stack.kafka import LocalKafka
from k2_core.errors import SpecError
from k2_query.params import MAX_ROWS
from k2_query.runtime import Runtime
from support.api import Api, serve, wait_healthy, wait_snapshot
from support.kafka import start_or_skip
from support.query import BASE, World, make_records
from support.waiting import wait_until

pytestmark = pytest.mark.kafka


def test_without_a_broker_the_table_is_answered_and_said_to_be_incomplete(tmp_path: Path) -> None:
    broker = LocalKafka(tmp_path / "kafka")
    start_or_skip(broker)
    try:
        with closing(World(broker.bootstrap_servers, tmp_path, f"q{uuid.uuid4().hex[:8]}")) as world:
            world.create_topic()
            [*_, last] = world.produce(make_records("BTCUSDT", 1, 20, BASE))
            world.commit()
            world.produce(make_records("BTCUSDT", 21, 10, BASE + timedelta(seconds=1)))
            with serve(world.settings, world.pipeline) as api:
                wait_healthy(api)
                assert len(api.ids()) == 30
                broker.stop()
                body = wait_until(lambda: _incomplete(api), "the outage to be noticed")
                assert [row["sequence"] for row in body["data"]] == list(range(1, 31)), "the tail is still in memory"
                gaps = {gap["partition"]: gap for gap in body["meta"]["incomplete_ranges"]}
                assert gaps[last.partition]["start"] == 30
                assert gaps[last.partition]["end"] is None
                assert {gap["reason"] for gap in gaps.values()} == {"kafka_unavailable"}
                assert any("Kafka does not answer" in warning for warning in body["meta"]["warnings"])
    finally:
        broker.stop()


def _incomplete(api: Api) -> dict[str, object] | None:
    body = api.once("/v1/trades", symbol="BTCUSDT")
    return None if body["meta"]["complete"] else body


def test_a_commit_that_is_newer_than_the_brokers_last_answer_is_no_loss(world: World) -> None:
    world.create_topic()
    [*_, last] = world.produce(make_records("BTCUSDT", 1, 10, BASE))
    with serve(world.settings, world.pipeline) as api:
        wait_healthy(api)
        api.runtime.tail.stop()
        api.runtime.watch.stop()
        world.produce(make_records("BTCUSDT", 11, 5, BASE + timedelta(seconds=1)))
        world.commit()
        wait_snapshot(api, world.head_id())
        body = api.once("/v1/trades", symbol="BTCUSDT")
    assert [row["sequence"] for row in body["data"]] == list(range(1, 16))
    gaps = body["meta"]["incomplete_ranges"]
    assert {gap["reason"] for gap in gaps} == {"kafka_unavailable"}
    assert [(gap["start"], gap["end"]) for gap in gaps if gap["partition"] == last.partition] == [(15, None)]


def test_with_a_broker_that_never_answered_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2_core.kafka.ADMIN_TIMEOUT_S", 0.2)
    with closing(World("127.0.0.1:1", tmp_path, "q1")) as world:
        assert world.catalog is not None
        with serve(world.settings, world.pipeline) as api:
            wait_until(lambda: api.client.get("/health").json()["checks"]["catalog"] == "ok", "the catalog")
            answer = api.client.get("/health")
            assert answer.status_code == 503
            assert answer.json()["checks"]["kafka"] != "ok"
            assert answer.json()["checks"]["tail"] != "ok"
            assert answer.json()["tail"]["unread_records"] is None
            body = api.once("/v1/trades", symbol="BTCUSDT")
            assert body["data"] == []
            assert body["meta"]["incomplete_ranges"][0]["reason"] == "kafka_unavailable"
            assert "k2_query_incomplete_total 1.0" in api.client.get("/metrics").text


def test_without_a_catalog_there_is_a_problem_and_then_the_last_snapshot(world: World) -> None:
    world.create_topic()
    (world.folder / "catalog.db").mkdir()
    with serve(world.settings.model_copy(update={"query_timeout_s": 5.0}), world.pipeline) as api:
        body = api.get("/v1/trades", 503, symbol="BTCUSDT")
        assert body["type"] == "urn:k2:problem:unavailable"
        assert "no snapshot" in body["detail"] or "found no end" in body["detail"]
        wait_until(lambda: "catalog:" in api.client.get("/health").json()["checks"]["catalog"], "the check")
        (world.folder / "catalog.db").rmdir()
        wait_healthy(api)
        world.produce(make_records("BTCUSDT", 1, 5, BASE))
        world.commit()
        wait_snapshot(api, world.head_id())
        database = world.folder / "catalog.db"
        database.write_bytes(b"no database" * 1000)
        wait_until(lambda: api.client.get("/health").status_code == 503, "the outage")
        world.produce(make_records("BTCUSDT", 6, 5, BASE))
        body = api.whole("/v1/trades", symbol="BTCUSDT")  # a pinned snapshot and the log are all that it needs
        assert len(body["data"]) == 10
        assert any("the last snapshot seen was used" in warning for warning in body["meta"]["warnings"])
        lake = api.get("/v1/trades", symbol="BTCUSDT", source="lake")
        assert any("the last snapshot seen was used" in warning for warning in lake["meta"]["warnings"])


def test_what_does_not_fit_into_memory_is_read_from_the_log(world: World) -> None:
    world.create_topic()
    world.produce(make_records("BTCUSDT", 1, 9_000, BASE, 1_000))
    world.commit({})
    query = world.pipeline.spec.query.model_copy(update={"tail_max_bytes": 200_000})
    spec = world.pipeline.spec.model_copy(update={"query": query})
    with serve(world.settings, world.pipeline.model_copy(update={"spec": spec})) as api:
        wait_healthy(api)
        assert api.runtime.store.evicted_rows > 5_000
        for order in ("asc", "desc"):
            body = api.whole("/v1/trades", symbol="BTCUSDT", limit=MAX_ROWS, order=order)
            numbers = [row["sequence"] for row in body["data"]]
            assert numbers == sorted(range(1, 9_001), reverse=order == "desc")
        assert api.whole("/v1/trades", symbol="ETHUSDT")["data"] == []


def test_a_tail_that_hangs_or_a_silence_is_unhealthy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.create_topic()
    with serve(world.settings, world.pipeline) as api:
        wait_healthy(api)
        monkeypatch.setattr("k2_query.runtime.STALE_S", -1.0)
        checks = api.client.get("/health").json()["checks"]
        assert "silent" in checks["tail"]
        assert "expected one within" in checks["kafka"]
        assert "expected one within" in checks["catalog"]


def test_a_warehouse_must_be_configured(world: World) -> None:
    with pytest.raises(SpecError, match="K2_WAREHOUSE"):
        Runtime(world.settings.model_copy(update={"warehouse": None}), world.pipeline)
