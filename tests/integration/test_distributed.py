"""The query service in mode distributed: real Kafka, PostgreSQL, S3 and Trino, asked over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from k2_cli.stack import ports
from k2_cli.stack.kafka import LocalKafka
from k2_core.kafka import KafkaAdmin
from k2_core.service_report import ServiceReport
from k2_core.spec import Pipeline, parse_pipeline
from k2_query.settings import DEVELOPMENT_KEY, QuerySettings
from support.api import Api, serve, wait_healthy, wait_healthy_but
from support.lake import environment_settings
from support.postgres import LocalPostgres
from support.query import BASE, Record, World, event_time, make_records
from support.s3 import LocalS3
from support.trino import SHIBBOLETH, USER, LocalTrino
from support.waiting import wait_until

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
        assert running.client.get("/health").json()["checks"]["trino"] == "ok"
        wait_until(lambda: running.client.get("/readyz").is_success, "what users ask to be answered in good time")
        yield running


def in_order(records: list[Record]) -> list[str]:
    return [one["message_id"] for one in sorted(records, key=lambda one: (event_time(one), one["sequence"]))]


def test_rows_of_table_and_log(api: Api, stage: Stage) -> None:
    document = api.whole("/v1/trades", symbol="BTCUSDT", start=START, end=END, limit=10_000)
    assert [row["message_id"] for row in document["data"]] == in_order(stage.all)
    meta = document["meta"]
    assert meta["rows"] == {"lake": 700, "tail": 50, "ledger": 0}
    newest = stage.world.catalog.load_table((stage.world.namespace, "trades")).current_snapshot()
    assert newest is not None
    assert meta["snapshot_id"] == str(newest.snapshot_id)
    [asked] = [
        query for query in stage.trino.queries("ORDER BY event_time ASC") if meta["snapshot_id"] in query["query"]
    ]
    tags = stage.trino.details(asked["queryId"])["session"]["clientTags"]
    assert f"correlation:{meta['correlation_id']}" in tags
    assert any(tag.startswith("key:") for tag in tags)


def test_what_its_questions_cost_is_in_its_figures(api: Api, stage: Stage) -> None:
    def shown(name: str) -> float:
        lines = api.client.get("/metrics").text.splitlines()
        return float(next((line.split()[-1] for line in lines if line.startswith(f"k2_query_trino_{name} ")), 0))

    answered = 'statements_total{outcome="ok",purpose="answer"}'
    before, read_before = shown(answered), shown('processed_rows_total{purpose="answer"}')
    api.get("/v1/trades", symbol="BTCUSDT", start=START, end=END, limit=10_000)
    assert shown(answered) >= before + 1
    assert shown('processed_rows_total{purpose="answer"}') - read_before >= len(stage.committed)
    assert shown('statements_total{outcome="ok",purpose="probe"}') >= 1
    assert shown("answers") == 1


def test_what_trino_answers_is_told_in_the_log(api: Api, stage: Stage) -> None:
    admin = KafkaAdmin(stage.settings)

    def said() -> ServiceReport | None:
        found = admin.group_signals(stage.pipeline.engine_group, stage.world.topic)
        return next((ServiceReport.parse(metadata) for _, metadata in found.values()), None)

    report = wait_until(said, "the service's word")
    assert (report.reason, report.problem) == ("Answers", None)
    assert api.client.get("/health").json()["checks"]["trino"] == "ok"


def test_the_newest_rows_of_both(api: Api, stage: Stage) -> None:
    document = api.get("/v1/trades", symbol="BTCUSDT", start=START, end=END, limit=40, order="desc")
    assert [row["message_id"] for row in document["data"]] == in_order(stage.all)[::-1][:40]


def test_days_of_both(api: Api, stage: Stage) -> None:
    document = api.whole("/v1/summary/BTCUSDT", start="2024-08-08", end="2024-08-10")
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
        wait_until(lambda: words in broken.client.get("/health").json()["checks"]["trino"], "health to say it")
        document = wait_healthy_but(broken, "trino")
        assert words in broken.client.get("/readyz").json()["checks"]["trino"]
        problem = broken.get("/v1/trades", 503, symbol="BTCUSDT", start=START, end=END)
    assert words in problem["detail"]
    assert problem["type"] in {"urn:k2:problem:refused", "urn:k2:problem:unavailable"}
    assert "guessed" not in str(problem) + str(document)


def test_k2_up_answers_through_a_trino(
    kafka: LocalKafka, postgres: LocalPostgres, s3: LocalS3, trino: LocalTrino, tmp_path: Path
) -> None:
    bucket, reference = s3.bucket(), {"name": "k2", "key": "any"}
    lake = {"K2_CATALOG_URI": postgres.database(), **s3.environment(bucket)}
    catalog = trino.catalog(environment_settings(lake))
    spec = {
        "namespace": f"t{uuid.uuid4().hex[:12]}",
        "kafka": {"bootstrapServers": kafka.bootstrap_servers, "replicationFactor": 1},
        "storage": {
            "catalog": {"type": "sql", "uriSecret": reference},
            "warehouse": f"s3://{bucket}/warehouse",
            "s3": {"endpoint": s3.endpoint, "accessKeySecret": reference, "secretKeySecret": reference},
        },
        "ingestion": [{"name": "b", "venue": "binance", "partitions": 4, "symbols": [{"name": "BTCUSDT"}]}],
        "sink": {"commitIntervalSeconds": 1},
        "query": {
            "mode": "distributed",
            "trino": {
                "url": trino.tls_url,
                "catalog": catalog,
                "user": USER,
                "passwordSecret": reference,
                "caSecret": reference,
            },
        },
    }
    pipeline, capture = tmp_path / "pipeline.yaml", tmp_path / "capture"
    document = {"apiVersion": "k2.dev/v1alpha1", "kind": "K2Pipeline", "metadata": {"name": "up"}, "spec": spec}
    pipeline.write_text(yaml.safe_dump(document))
    capture.write_text("".join(capture_line("BTCUSDT", number) for number in range(1, 201)))
    port = ports.find_free(str(tmp_path))
    options = ["-f", str(pipeline), "--dir", str(tmp_path / "k2"), "--port", str(port), "--capture", str(capture)]
    secrets = {"K2_TRINO_PASSWORD": SHIBBOLETH, "K2_TRINO_CA_FILE": str(trino.ca_file)}
    output = tmp_path / "output"
    with output.open("w") as stream, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        client.headers["X-API-Key"] = DEVELOPMENT_KEY
        process = subprocess.Popen(
            [sys.executable, "-m", "k2_cli", "up", *options],
            env={**os.environ, **lake, **secrets},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until(lambda: rows_in_the_lake(client) == 200 or process.poll() is not None, "the rows", 240)
            assert process.poll() is None, output.read_text()
            window = {"symbol": "BTCUSDT", "start": START, "end": END, "limit": "1000", "source": "lake"}
            answer = client.get("/v1/trades", params=window)
            assert answer.status_code == 200, answer.text
            expected = [f"binance:spot:BTCUSDT:{number}" for number in range(1, 201)]
            assert [row["message_id"] for row in answer.json()["data"]] == expected
            assert trino.queries(catalog)
            process.send_signal(signal.SIGINT)
            process.wait(120)
        finally:
            process.kill()
            process.wait()
    logs = "".join(path.read_text() for path in (tmp_path / "k2" / "log").glob("*.log"))
    assert SHIBBOLETH not in logs + output.read_text()


def rows_in_the_lake(client: httpx.Client) -> int:
    """Return how many rows the table has, as the API says; 0 while it does not say."""
    try:
        answer = client.get("/v1/tables")
    except httpx.TransportError:
        return 0
    tables = answer.json().get("data", []) if answer.is_success else []
    return sum(table["rows"] for table in tables if table["table"] == "trades")


def capture_line(symbol: str, number: int) -> str:
    """Return a line of a raw capture: receive time in ns, and the exchange's message."""
    at_ms = int(BASE.timestamp() * 1000) + number * 7
    data = {"e": "trade", "E": at_ms + 1, "s": symbol, "t": number, "p": "61837.63000000", "q": "0.02000000"}
    message = {"stream": f"{symbol.lower()}@trade", "data": {**data, "T": at_ms, "m": bool(number % 2), "M": True}}
    return f"{(at_ms + 3) * 1_000_000} {json.dumps(message, separators=(',', ':'))}\n"
