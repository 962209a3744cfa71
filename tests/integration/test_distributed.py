"""The query service in mode distributed: real Kafka, PostgreSQL, S3 and Trino, asked over HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from k2_cli.stack.kafka import LocalKafka
from k2_core.spec import Pipeline, parse_pipeline
from k2_query.settings import QuerySettings
from support.api import Api, serve, wait_healthy
from support.postgres import LocalPostgres
from support.query import BASE, Record, World, event_time, make_records
from support.s3 import LocalS3
from support.trino import SHIBBOLETH, USER, LocalTrino

pytestmark = [pytest.mark.kafka, pytest.mark.trino]
START = BASE.isoformat().replace("+00:00", "Z")
END = (BASE + timedelta(days=2)).isoformat().replace("+00:00", "Z")


@dataclass
class Stage:
    """A world with two commits, and records in the log beyond them; one of those the table has, too."""

    world: World
    pipeline: Pipeline
    settings: QuerySettings
    trino: LocalTrino
    first: list[Record]
    committed: list[Record]
    all: list[Record]

    def change(self, **changes: Any) -> QuerySettings:
        return QuerySettings.model_validate(dict(self.settings) | changes)


@pytest.fixture(scope="module")
def stage(
    kafka: LocalKafka,
    postgres: LocalPostgres,
    s3: LocalS3,
    trino: LocalTrino,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    lake = {"K2_CATALOG_URI": postgres.database(), **s3.environment(s3.bucket())}
    folder: Path = tmp_path_factory.mktemp("distributed")
    with closing(World(kafka.bootstrap_servers, folder, f"d{uuid.uuid4().hex[:12]}", lake=lake)) as world:
        catalog = trino.catalog(world.settings)
        query = {"mode": "distributed", "trino": {"url": trino.tls_url, "catalog": catalog}}
        settings = world.settings.model_copy(
            update={
                "trino_url": trino.tls_url,
                "trino_catalog": catalog,
                "trino_user": USER,
                "trino_password": SecretStr(SHIBBOLETH),
                "trino_ca_file": trino.ca_file,
                "query_timeout_s": 120.0,
            }
        )
        world.create_topic()
        first = make_records("BTCUSDT", 1, 300, BASE, 1_000_000)
        world.produce(first)
        world.commit()
        second = make_records("BTCUSDT", 301, 400, BASE + timedelta(minutes=5), 1_000_000)
        world.produce(second)
        world.commit()
        tail = make_records("BTCUSDT", 701, 50, BASE + timedelta(minutes=9, seconds=30), 2_000_000)
        world.produce([*tail, first[7]])
        made = parse_pipeline(world.document(**query))
        committed = [*first, *second]
        yield Stage(world, made, settings, trino, first, committed, [*committed, *tail])
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        admin.delete_topics([world.topic])[world.topic].result(20)


@pytest.fixture(scope="module")
def api(stage: Stage) -> Iterator[Api]:
    with serve(stage.settings, stage.pipeline) as running:
        wait_healthy(running)
        yield running


def in_order(records: list[Record]) -> list[str]:
    return [one["message_id"] for one in sorted(records, key=lambda one: (event_time(one), one["sequence"]))]


def test_rows_of_table_and_log(api: Api, stage: Stage) -> None:
    document = api.get("/v1/trades", symbol="BTCUSDT", start=START, end=END, limit=10_000)
    assert [row["message_id"] for row in document["data"]] == in_order(stage.all)
    meta = document["meta"]
    assert (meta["complete"], meta["rows"]) == (True, {"lake": 700, "tail": 50, "ledger": 0})
    newest = stage.world.catalog.load_table((stage.world.namespace, "trades")).current_snapshot()
    assert newest is not None
    assert meta["snapshot_id"] == str(newest.snapshot_id)
    [asked] = [
        query for query in stage.trino.queries("ORDER BY event_time ASC") if meta["snapshot_id"] in query["query"]
    ]
    tags = stage.trino.details(asked["queryId"])["session"]["clientTags"]
    assert f"correlation:{meta['correlation_id']}" in tags
    assert any(tag.startswith("key:") for tag in tags)


def test_the_newest_rows_of_both(api: Api, stage: Stage) -> None:
    document = api.get("/v1/trades", symbol="BTCUSDT", start=START, end=END, limit=40, order="desc")
    assert [row["message_id"] for row in document["data"]] == in_order(stage.all)[::-1][:40]


def test_days_of_both(api: Api, stage: Stage) -> None:
    document = api.get("/v1/summary/BTCUSDT", start="2024-08-08", end="2024-08-10")
    assert document["meta"]["complete"] is True
    with localcontext(prec=60):
        for day in document["data"]:
            own = [one for one in stage.all if event_time(one).date().isoformat() == day["day"]]
            names = in_order(own)
            by_id = {one["message_id"]: one for one in own}
            assert day["trades"] == len(own)
            assert Decimal(day["open"]) == by_id[names[0]]["price"]
            assert Decimal(day["close"]) == by_id[names[-1]]["price"]
            assert Decimal(day["volume"]) == sum(one["quantity"] for one in own)
            assert Decimal(day["notional"]) == sum(one["price"] * one["quantity"] for one in own)
    assert [day["day"] for day in document["data"]] == ["2024-08-08", "2024-08-09"]


def test_symbols_of_both(api: Api, stage: Stage) -> None:
    [span] = api.get("/v1/symbols")["data"]
    assert span["symbol"] == "BTCUSDT"
    assert span["last_event_time"] == max(map(event_time, stage.all)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_an_older_snapshot(api: Api, stage: Stage) -> None:
    [_, oldest] = [one["snapshot_id"] for one in api.get("/v1/snapshots")["data"]]
    document = api.get("/v1/trades", symbol="BTCUSDT", start=START, end=END, limit=10_000, snapshot_id=oldest)
    assert [row["message_id"] for row in document["data"]] == in_order(stage.first)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trino_password": SecretStr("guessed")}, "found the credentials refused (HTTP 401)"),
        ({"trino_ca_file": None}, "found a certificate that no known authority signed"),
        ({"trino_catalog": "elsewhere"}, "Catalog 'elsewhere' not found"),
        ({"trino_url": "https://127.0.0.1:1"}, "found no connection (Connection refused)"),
    ],
    ids=["password", "authority", "catalog", "address"],
)
def test_what_keeps_trino_from_answering_is_in_the_problem(stage: Stage, changes: dict[str, Any], words: str) -> None:
    with serve(stage.change(**changes), stage.pipeline) as broken:
        wait_healthy(broken)
        problem = broken.get("/v1/trades", 503, symbol="BTCUSDT", start=START, end=END)
    assert words in problem["detail"]
    assert problem["type"] in {"urn:k2:problem:refused", "urn:k2:problem:unavailable"}
    assert "guessed" not in str(problem)
