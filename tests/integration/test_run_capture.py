"""`hack/run` as a user runs it: captures through the whole path with an exact oracle, and nothing left behind.

The oracle is this file's own: it reads the captures line by line and the table's files with pyarrow, and compares sets
of whole values. Each test runs the real command with real Kafka, exchange, ingest, sink, catalog and query service.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from support.captures import capture_files
from support.cli import k2
from support.running import ROOT, TIMEOUT_S, Running, descendants_of, nothing_is_left_of, run

pytestmark = [pytest.mark.kafka]

KEYS = ["received", "produced", "committed", "duplicates", "missing", "dead_lettered", "wall_s", "messages_per_s"]
KEYS += ["freshness_p99_s"]

Values = tuple[str, str, Decimal, Decimal, str, int]
"""Message id, symbol, price, quantity, side, exchange time in us."""


def trades_in(files: list[Path]) -> list[Values]:
    found: list[Values] = []
    for path in files:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            messages = [json.loads(line.partition(" ")[2]) for line in lines]
        found += [_values(message["data"]) for message in messages if str(message.get("stream")).endswith("@trade")]
    return found


def _values(trade: dict[str, Any]) -> Values:
    identity = f"binance:spot:{trade['s']}:{trade['t']}"
    side = "sell" if trade["m"] else "buy"
    return identity, trade["s"], Decimal(trade["p"]), Decimal(trade["q"]), side, trade["T"] * 1000


def rows_of(folder: Path) -> pa.Table:
    """The rows of the head's files, read as plain Parquet."""
    properties = {"uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"}
    catalog = SqlCatalog("k2", **properties)
    files = [task.file.file_path for task in catalog.load_table("market.trades").scan().plan_files()]
    catalog.close()
    return pa.concat_tables([pq.read_table(name.removeprefix("file://"), partitioning=None) for name in files])


def trades_of(folder: Path) -> list[Values]:
    rows = rows_of(folder)
    times = rows.column("exchange_timestamp").cast(pa.int64()).to_pylist()
    columns = [rows.column(name).to_pylist() for name in ("message_id", "symbol", "price", "quantity", "side")]
    return list(zip(*columns, times, strict=True))


@pytest.mark.captures
def test_real_captures_arrive_exactly_once_and_a_second_time_not_at_all(tmp_path: Path) -> None:
    files = capture_files("binance-ws", "*.gz")
    oracle = Counter(trades_in(files))
    assert len(oracle) == 15_863
    folder = tmp_path / "k2"
    first = run("--capture", *files, "--once", "--json", "--dir", folder)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("\n") == 1
    account = json.loads(first.stdout)
    assert list(account) == KEYS
    counts = {name: account[name] for name in KEYS[:6]}
    trades = len(oracle)
    assert counts == {
        "received": trades,
        "produced": trades,
        "committed": trades,
        "duplicates": 0,
        "missing": 0,
        "dead_lettered": 0,
    }
    assert account["wall_s"] > 0
    assert account["messages_per_s"] == pytest.approx(trades / account["wall_s"], rel=0.01)
    assert account["freshness_p99_s"] > 0
    assert Counter(trades_of(folder)) == oracle
    assert not descendants_of(folder)

    second = run("--capture", files[0], "--capture", files[1], "--once", "--json", "--dir", folder)
    assert second.returncode == 0, second.stderr
    again = json.loads(second.stdout)
    assert {name: again[name] for name in KEYS[:6]} == counts
    assert Counter(trades_of(folder)) == oracle  # not a row more
    audit = k2("audit", "--json", "--dir", folder)
    assert audit.code == 0
    proof = audit.document
    assert proof["complete"] is True
    assert sum(at["duplicates"] for at in proof["partitions"]) == trades  # all of the second replay
    assert sum(at["next"] - at["origin"] for at in proof["partitions"]) == 2 * trades
    days = {(day["symbol"], day["day"]): (day["first"], day["last"], day["stored"]) for day in proof["symbols"]}
    assert days == {
        ("BTCUSDT", "2024-08-08"): (3735683259, 3735692996, 9738),
        ("BTCUSDT", "2024-08-09"): (3735692997, 3735693015, 19),
        ("ETHUSDT", "2024-08-08"): (1520538925, 1520545022, 6098),
        ("ETHUSDT", "2024-08-09"): (1520545023, 1520545030, 8),
    }


def capture_line(trade_id: int, **changes: object) -> str:
    trade = {"e": "trade", "E": 1723161255343, "s": "SOLUSDT", "t": trade_id, "p": "153.42000000", "q": "0.50000000"}
    trade |= {"T": 1723161255342, "m": False, "M": True} | changes
    return f"{1723161253937085768 + trade_id} {json.dumps({'stream': 'solusdt@trade', 'data': trade})}\n"


def test_bad_lines_become_dead_letters_and_gaps_are_told_by_the_audit(tmp_path: Path) -> None:
    lines = [capture_line(number) for number in (1, 2, 3, 7, 8)]
    lines[2:2] = [capture_line(90, p="-1.00000000"), capture_line(91, q="0.000000001"), "1723161253937085771 {broken\n"]
    capture, folder = tmp_path / "capture.txt", tmp_path / "k2"
    capture.write_text("".join(lines))
    ended = run("--once", "--json", "--dir", folder, "--capture", capture)
    assert ended.returncode == 0, ended.stderr
    account = json.loads(ended.stdout)
    wanted = {"received": 5, "produced": 5, "committed": 5, "duplicates": 0, "missing": 0, "dead_lettered": 3}
    assert {name: account[name] for name in wanted} == wanted
    audit = k2("audit", "--json", "--dir", folder)
    assert audit.code == 1
    [day] = audit.document["symbols"]
    assert (day["symbol"], day["missing_ranges"], day["expected"], day["stored"]) == ("SOLUSDT", [[4, 6]], 8, 5)
    lag = k2("lag", "--dir", folder)
    assert (lag.code, lag.out) == (4, "")
    assert "found nothing running, expected `k2 up` on this folder" in lag.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("kind: Deployment\n", "apiVersion: found nothing", id="another kind"),
        pytest.param("a: [\n", "document: found", id="no YAML"),
    ],
)
def test_a_bad_pipeline_file_is_one_line_and_exit_2(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    ended = run("-f", tmp_path / "bad.yaml", "--dir", tmp_path / "k2")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert "expected" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "k2").exists()


def commands_answer_while_it_runs(running: Running) -> None:
    folder = running.folder
    status = k2("status", "--json", "--dir", folder)
    assert status.code == 0, status.out
    names = {process["name"] for process in status.document["processes"]}
    assert names == {"sink-0", "ingest-binance", "exchange", "query"}
    lag = k2("lag", "--json", "--dir", folder)
    assert lag.code == 0, lag.err
    partitions = lag.document["partitions"]
    assert len(partitions) == 50
    busy = [at for at in partitions if at["end"] > 0]
    assert len(busy) == 3
    assert all(at["read"] is not None and at["next"] <= at["read"] <= at["end"] for at in busy)
    people = k2("lag", "--dir", folder)
    assert "50 partitions, 3 with records: unread " in people.out
    query = k2("query", "BTCUSDT", "--limit", 3, "--json", "--dir", folder)
    assert query.code == 0, query.err
    assert len(query.document["data"]) == 3
    refused = k2("query", "BTCUSDT", "--window", "soon", "--dir", folder)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    for command in (("reset", "--yes"), ("up", "-f", ROOT / "manifests" / "pipeline.yaml", "--port", "1024")):
        second = k2(*command, "--dir", folder)
        assert second.code == 3
        assert f"{folder} is in use by `k2 up` of process {running.process.pid}" in second.err
    taken = k2("up", "-f", ROOT / "manifests" / "pipeline.yaml", "--port", running.port, "--dir", f"{folder}-2")
    assert taken.code == 3
    assert f"port {running.port} is in use by process" in taken.err


def test_it_runs_until_ctrl_c_then_goes_on_restarts_what_dies_and_stops_before_the_disk_is_full(
    start: Callable[..., Running],
) -> None:
    first = start("--synthetic")
    first.until(lambda: "curl -s -H" in first.said())
    assert "K2's own exchange with synthetic trades (--synthetic asks for them)" in first.said()
    first.until(lambda: first.rows() > 0)
    commands_answer_while_it_runs(first)
    assert first.end(signal.SIGINT) == 0, first.said()
    nothing_is_left_of(first)
    for line in (
        "ingest-binance: flushing",
        "sink-0: reading to the end, committing",
        "kafka: shutting down",
        "is committed",
    ):
        assert line in first.said()
    before = first.rows()

    second = start("--json", "--synthetic", "--rate", 2_000, "--max-disk", "150MB")
    second.until(lambda: second.rows() > before)
    status = k2("status", "--json", "--dir", second.folder).document
    sink = next(process["pid"] for process in status["processes"] if process["name"] == "sink-0")
    os.kill(sink, signal.SIGKILL)
    second.until(lambda: "sink-0 ended by signal 9; starting it again in 0.5 s" in second.said())
    killed_at = second.rows()
    second.until(lambda: second.rows() > killed_at)
    second.until(lambda: '"api"' in second.stdout.read_text())  # it answers later than rows arrive on a busy machine
    documents = [json.loads(line) for line in second.stdout.read_text().splitlines()]
    assert [document["source"] for document in documents if "source" in document] == ["synthetic"]
    second.children = psutil.Process(second.process.pid).children(recursive=True)
    (second.folder / "filler").write_bytes(os.urandom(150_000_000))
    assert second.process.wait(TIMEOUT_S) == 3
    assert "expected less than the limit of 150 MB; stopped cleanly, everything received is kept" in second.said()
    nothing_is_left_of(second)
    proof = k2("audit", "--json", "--dir", second.folder).document
    assert proof["complete"] is True  # contiguous over the restart and the kill, and nothing twice
    assert proof["rows"] > before
    assert k2("reset", "--yes", "--dir", second.folder).code == 0
    assert [path.name for path in second.folder.iterdir()] == ["filler"]


def test_a_ctrl_c_while_it_starts_leaves_nothing(start: Callable[..., Running]) -> None:
    early = start("--synthetic")
    early.until((early.folder / "kafka" / "port").exists)
    assert early.end(signal.SIGINT) == 130
    nothing_is_left_of(early)


@contextmanager
def exchange() -> Iterator[str]:
    """An exchange that is not `k2 up`'s own; its `host:port`."""
    command = [sys.executable, "-m", "k2_cli", "exchange", "--port", "0", "--rate", "300", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["rest_url"].removeprefix("http://")
        process.terminate()


def test_a_live_exchange_is_the_source_and_a_second_ctrl_c_kills(start: Callable[..., Running], tmp_path: Path) -> None:
    text = (ROOT / "manifests" / "pipeline.yaml").read_text()
    with exchange() as address:
        urls = f"venue: binance\n      url: ws://{address}\n      restUrl: http://{address}"
        (tmp_path / "live.yaml").write_text(text.replace("venue: binance", urls))
        running = start("-f", tmp_path / "live.yaml")
        running.until(lambda: f"source: the live exchange at ws://{address} (it answers)" in running.said())
        running.until(lambda: running.rows() > 0)
        broker = next(
            child for child in psutil.Process(running.process.pid).children() if "kafka.Kafka" in child.cmdline()
        )
        broker.suspend()  # so that nothing can be flushed
        running.children = psutil.Process(running.process.pid).children(recursive=True)
        running.process.send_signal(signal.SIGINT)
        running.until(lambda: "ingest-binance: flushing" in running.said())
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(TIMEOUT_S) == 130
        nothing_is_left_of(running)
        assert k2("audit", "--dir", running.folder).code == 0
        mixed = k2("up", "-f", tmp_path / "live.yaml", "--synthetic", "--dir", running.folder, "--port", running.port)
        assert mixed.code == 3
        assert "holds live trades, expected none or synthetic ones" in mixed.err
