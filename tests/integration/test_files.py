"""Files through the whole path as a user runs it: every row of the real files once, beside an exchange or alone.

The oracle is Python's csv module over the files, compared with the API's answers as a multiset: identical rows are
different trades.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from k2_query.settings import DEVELOPMENT_KEY
from support.api import in_time
from support.asx import Trade, answered, line, read, write
from support.captures import capture_files
from support.cli import k2
from support.running import Running, nothing_is_left_of, run

pytestmark = [pytest.mark.kafka]

MARCH = datetime(2014, 3, 9, tzinfo=UTC), datetime(2014, 3, 15, tzinfo=UTC)
MOST_ROWS = 10_000
"""Of one answer."""
TRADES_TOPIC = "market.equities.trades.asx"


def pipeline_file(folder: Path, files: dict[str, tuple[Path, str]], *others: dict[str, Any]) -> Path:
    source = {
        "name": "asx",
        "venue": "asx",
        "partitions": 5,
        "files": [{"name": name, "path": str(path), "symbol": symbol} for name, (path, symbol) in files.items()],
    }
    document = {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "K2Pipeline",
        "metadata": {"name": "files"},
        "spec": {"ingestion": [source, *others], "sink": {"commitIntervalSeconds": 1}},
    }
    path = folder / "files.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def asked(client: httpx.Client, path: str, **parameters: str) -> dict[str, Any]:
    """An answer for which there was time."""
    return in_time(lambda: dict(client.get(path, params=parameters).raise_for_status().json()))


def answers(client: httpx.Client, symbol: str, start: datetime, end: datetime) -> Iterator[Trade]:
    """All trades of a symbol and time, in halves until each fits one answer."""
    parameters = {"symbol": symbol, "start": start.isoformat(), "end": end.isoformat(), "limit": str(MOST_ROWS)}
    answer = asked(client, "/v1/trades", **parameters)
    assert answer["meta"]["complete"] is True
    if len(answer["data"]) == MOST_ROWS:
        middle = start + (end - start) / 2
        assert end - start > timedelta(microseconds=1)
        yield from answers(client, symbol, start, middle)
        yield from answers(client, symbol, middle, end)
        return
    yield from map(answered, answer["data"])


def ingest_of_files(running: Running) -> psutil.Process:
    """The process that reads the files."""
    children = psutil.Process(running.process.pid).children()
    return next(child for child in children if child.environ().get("K2_INGEST_SOURCE") == "asx")


@pytest.mark.captures
def test_real_files_beside_an_exchange_over_a_kill_are_there_once_each(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    bhp, dvn = capture_files("asx/trades", "7078.csv") + capture_files("asx/trades", "7181.csv")
    exchange = {"name": "binance", "venue": "binance", "partitions": 5, "symbols": [{"name": "BTCUSDT"}]}
    files = {"bhp-10": (bhp, "BHP"), "dvn-10": (dvn, "DVN")}
    running = start("-f", pipeline_file(tmp_path, files, exchange), "--synthetic", "--rate", 200)
    log = running.folder / "log/ingest-asx.log"
    running.until(lambda: log.exists() and "ingest runs" in log.read_text())
    ingest_of_files(running).kill()  # it has just begun to read
    running.until(lambda: "ingest-asx ended by signal 9; starting it again" in running.said())
    running.until(lambda: "all files are in the log" in log.read_text())
    running.until(lambda: "curl -s -H" in running.said())

    expected = {"BHP": Counter(read(bhp, "BHP")), "DVN": Counter(read(dvn, "DVN"))}
    assert (expected["BHP"].total(), expected["DVN"].total()) == (91_631, 232)
    assert max(expected["BHP"].values()) > 1
    headers = {"X-API-Key": DEVELOPMENT_KEY}
    with httpx.Client(base_url=f"http://127.0.0.1:{running.port}", headers=headers, timeout=60) as client:
        for symbol, rows in expected.items():
            assert Counter(answers(client, symbol, *MARCH)) == rows
            summary = asked(client, f"/v1/summary/{symbol}")["data"]
            on_market = Counter(at.date().isoformat() for _, _, _, at, _, venue, _ in rows.elements() if venue != "X")
            assert {day["day"]: day["trades"] for day in summary} == on_market
        assert asked(client, "/v1/trades/recent", symbol="BTCUSDT")["data"]
    lag = k2("lag", "--json", "--dir", running.folder).document["partitions"]
    assert Counter(at["topic"] for at in lag) == {TRADES_TOPIC: 5, "market.crypto.trades.binance": 5}
    assert running.end(signal.SIGINT) == 0, running.said()
    nothing_is_left_of(running)
    proof = k2("audit", "--json", "--dir", running.folder).document
    assert proof["complete"] is True
    stored = Counter[tuple[str, str]]()
    for day in proof["symbols"]:
        stored[day["market"], day["symbol"]] += day["stored"]
    assert (stored["asx.bhp-10", "BHP"], stored["asx.dvn-10", "DVN"]) == (91_631, 232)
    assert stored["spot", "BTCUSDT"] > 0
    ours = [at for at in proof["partitions"] if at["topic"] == TRADES_TOPIC]
    assert sum(at["rows"] for at in ours) == 91_631 + 232


def test_files_alone_are_taken_in_once_and_accounted_for(tmp_path: Path) -> None:
    good, bad, folder = write(tmp_path / "good.csv", 3_000), tmp_path / "bad.csv", tmp_path / "k2"
    bad.write_bytes(b"\r\n".join([line(1), b"no trade", line(3)]))
    pipeline = pipeline_file(tmp_path, {"good": (Path("good.csv"), "BHP"), "bad": (Path("bad.csv"), "DVN")})
    for _ in range(2):  # a second time changes nothing
        ended = run("-f", pipeline, "--once", "--json", "--dir", folder)
        assert ended.returncode == 0, ended.stderr
        files = json.loads(ended.stdout)["files"]
        assert [list(file.values()) for file in files] == [
            ["asx.good", str(good), 3_000, 3_000, 0, 0, 0],
            ["asx.bad", str(bad), 3, 2, 1, 0, 0],
        ]
    audit = k2("audit", "--json", "--dir", folder)
    ranges = {day["market"]: day["missing_ranges"] for day in audit.document["symbols"] if day["missing"]}
    assert ranges == {"asx.bad": [[2, 2]]}  # the dead letter
    write(good, 3_001)
    changed = run("-f", pipeline, "--once", "--json", "--dir", folder)
    assert changed.returncode == 5
    assert f"asx.good ({good}): found a file with digest " in changed.stderr
    assert "of which the log has rows to 3000: put that one back, or name this one anew" in changed.stderr


def test_files_alone_are_served_until_ctrl_c(start: Callable[..., Running], tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 2_000)
    running = start("-f", pipeline_file(tmp_path, {"a": (path, "BHP")}))
    running.until(lambda: "curl -s -H" in running.said())
    assert "source: files (the pipeline names no exchange; each is read once)" in running.said()
    assert "/v1/trades?symbol=BHP&limit=5" in running.said()
    running.until(lambda: running.rows() == 2_000)
    assert not (running.folder / "trades").exists()  # what kind of trades it holds: rows of files say so themselves
    assert running.end(signal.SIGINT) == 0, running.said()
    nothing_is_left_of(running)
    assert k2("audit", "--dir", running.folder).code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--synthetic"], "--synthetic: found a pipeline of files alone, expected one with an exchange"),
        (["--capture", __file__], f"--capture: found {__file__} that begins with"),
    ],
)
def test_options_that_files_contradict_are_one_line(tmp_path: Path, options: list[str], said: str) -> None:
    ended = run("-f", pipeline_file(tmp_path, {"a": (tmp_path / "a.csv", "BHP")}), *options, "--dir", tmp_path / "k2")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert said in ended.stderr


def test_an_exchange_has_no_end_to_run_to(tmp_path: Path) -> None:
    exchange = {"name": "binance", "venue": "binance", "symbols": [{"name": "BTCUSDT"}]}
    pipeline = pipeline_file(tmp_path, {"a": (tmp_path / "a.csv", "BHP")}, exchange)
    ended = run("-f", pipeline, "--once", "--dir", tmp_path / "k2")
    assert ended.returncode == 2
    assert "--once: found no --capture, expected captures to replay once, or a pipeline of files alone" in ended.stderr
