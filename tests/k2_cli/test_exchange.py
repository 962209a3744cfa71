"""`k2 exchange` as a process, with websockets' own client."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedOK
from websockets.sync.client import connect

from k2_cli.exchange import parse_first_ids
from k2_core.errors import SpecError
from support.cli import k2


@contextmanager
def exchange(*options: object) -> Iterator[dict[str, str]]:
    command = [sys.executable, "-m", "k2_cli", "exchange", "--port", "0", "--json", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()


def received(url: str) -> list[Any]:
    found = []
    with connect(url) as connection:
        try:
            while True:
                found.append(json.loads(connection.recv(timeout=60)))
        except ConnectionClosedOK:
            return found


def test_synthetic_trades_go_on_where_they_are_told() -> None:
    with exchange("--symbols", "btcusdt, ethusdt", "--count", 20, "--rate", 0, "--first-id", "BTCUSDT=77") as where:
        trades = received(f"{where['websocket_url']}/stream?streams=btcusdt@trade/ethusdt@trade")
    assert len(trades) == 20
    bitcoin = [trade["data"]["t"] for trade in trades if trade["data"]["s"] == "BTCUSDT"]
    assert bitcoin == list(range(77, 77 + len(bitcoin)))
    assert where["rest_url"].startswith("http://127.0.0.1:")


def test_captures_are_replayed_as_they_are(tmp_path: Path) -> None:
    first = '{"stream":"btcusdt@trade","data":{"e":"trade","s":"BTCUSDT","t":1,"p":"1.0","q":"1.0","T":1,"m":true}}'
    second = first.replace('"t":1', '"t":2')
    (tmp_path / "a").write_text(f"2 {second}\n3 not json\n")
    (tmp_path / "b").write_text(f"1 {first}\n")
    options = ("--speed", 0, "--pass-malformed", "--capture", tmp_path / "a", tmp_path / "b")
    with exchange(*options) as where, connect(f"{where['websocket_url']}/stream?streams=btcusdt@trade") as connection:
        assert [connection.recv(timeout=60) for _ in range(3)] == [first, second, "not json"]


def test_a_first_id_that_is_none_is_bad_input() -> None:
    assert parse_first_ids(["btcusdt=7", "ETHUSDT=8"]) == {"BTCUSDT": 7, "ETHUSDT": 8}
    with pytest.raises(SpecError, match="--first-id: found 'BTCUSDT', expected SYMBOL=ID"):
        parse_first_ids(["BTCUSDT"])
    assert k2("exchange", "--first-id", "x=y").code == 2


def test_what_cannot_be_served_is_one_line() -> None:
    answer = k2("exchange", "--symbols", " , ")
    assert answer.code == 3
    assert "exchange symbols: found none" in answer.err
