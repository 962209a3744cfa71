"""What others see of a table whose sink defers: the query answers completely, the audit says what is owed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from k2_cli.stack.kafka import LocalKafka
from k2_query.settings import DEVELOPMENT_KEY
from support.api import in_time
from support.cli import k2
from support.records import Record, make_trades
from support.sink import SinkWorkspace
from support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.levels]
LOW, NORMAL, CRITICAL = "DOGEUSDT", "ETHUSDT", "BTCUSDT"


@pytest.fixture
def work(kafka: LocalKafka, tmp_path: Path) -> Iterator[SinkWorkspace]:
    priorities = {LOW: "low", NORMAL: "normal", CRITICAL: "critical"}
    workspace = SinkWorkspace(kafka.bootstrap_servers, tmp_path, priorities=priorities)
    yield workspace
    workspace.close()


@contextmanager
def query(work: SinkWorkspace) -> Iterator[httpx.Client]:
    """A query service of the pipeline, and a client of it."""
    log = work.folder / "query.log"
    environment = work.environment() | {"K2_EMBEDDED": "true", "K2_PORT": "0"}
    with log.open("wb") as stderr:
        child = subprocess.Popen([sys.executable, "-m", "k2_query"], env=os.environ | environment, stderr=stderr)
    try:

        def ports() -> list[int]:
            whole = log.read_text().rpartition("\n")[0].splitlines()
            lines = [json.loads(line) for line in whole if line.startswith("{")]
            return [line["port"] for line in lines if line["message"] == "listening"]

        wait_until(lambda: ports() or child.poll() is not None, "the query service to listen")
        [port] = ports()
        headers = {"X-API-Key": DEVELOPMENT_KEY}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
            yield client
    finally:
        child.kill()
        child.wait()


def ids(trades: list[Record], symbol: str) -> set[str]:
    return {trade["message_id"] for trade in trades if trade["symbol"] == symbol}


def test_while_ranges_are_owed_answers_are_complete_and_the_audit_balances(work: SinkWorkspace) -> None:
    work.set_level(0)
    trades = make_trades(900, symbols=(LOW, NORMAL, CRITICAL), seed=61)
    sink = work.start()
    work.produce(trades[:300])
    wait_until(lambda: work.committed() == 300, "the first part")
    work.set_level(3)
    wait_until(lambda: sink.metric("k2_degradation_level") == 3, "level 3")
    work.produce(trades[300:600])
    wait_until(lambda: work.committed() == 600, "the second part")
    work.set_level(4)
    wait_until(lambda: sink.metric("k2_degradation_level") == 4, "level 4")
    work.produce(trades[600:])
    owed = sum(trade["symbol"] != CRITICAL for trade in trades[300:600])
    assert work.owed() == owed

    answers_are_complete(work, trades)
    told = k2("audit", "--dir", work.folder, "--json")
    assert told.code == 1
    assert told.document["owed_records"] == owed
    assert not told.document["complete"]
    assert all(at["balanced"] for at in told.document["partitions"])
    assert sum(at["deferred"] for at in told.document["partitions"]) == owed
    assert sum(entry["records"] for entry in told.document["open_ledger"]) == owed
    for entry in told.document["open_ledger"]:
        assert Path(entry["raw_file"].removeprefix("file://")).exists()
        assert entry["raw_problem"] is None
    text = k2("audit", "--dir", work.folder).out
    assert f"NOT complete: {owed} records are owed" in text
    assert "kept in raw file file://" in text

    work.trim_to_table()
    answers_are_complete(work, trades)
    assert k2("audit", "--dir", work.folder, "--json").document == told.document

    work.set_level(0)
    wait_until(lambda: work.committed() == 900 and not work.owed(), "all to come in")
    assert sink.terminate() == 0
    told = k2("audit", "--dir", work.folder, "--json")
    assert (told.code, told.document["owed_records"], told.document["complete"]) == (0, 0, True)
    work.check(trades)
    assert work.check_every_snapshot() > 0


def asked(client: httpx.Client, symbol: str) -> dict[str, Any]:
    return in_time(lambda: dict(client.get("/v1/trades", params={"symbol": symbol, "limit": 10_000}).json()))


def answers_are_complete(work: SinkWorkspace, trades: list[Record]) -> None:
    """Ask a service that has just begun for each symbol: from table, ledger and log together all comes once."""
    with query(work) as client:
        for symbol in (LOW, NORMAL, CRITICAL):
            answer = asked(client, symbol)
            assert {row["message_id"] for row in answer["data"]} == ids(trades, symbol)
            assert len(answer["data"]) == len(ids(trades, symbol))
            assert answer["meta"]["complete"]
            deferred = ids(trades[300:600], symbol) if symbol != CRITICAL else set()
            assert answer["meta"]["rows"]["ledger"] == len(deferred)
