"""k2_cli.captured: the oracle's own reading."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from k2_cli.captured import SCHEMA, read_captures
from k2_core.errors import SpecError

TRADE = {"e": "trade", "E": 1723161255343, "s": "BTCUSDT", "t": 3735683259, "p": "61837.63000000"}
TRADE |= {"q": "0.02000000", "T": 1723161255342, "m": True, "M": True}


def line(stream: str = "btcusdt@trade", **changes: Any) -> str:
    return f"1723161253937085768 {json.dumps({'stream': stream, 'data': TRADE | changes})}\n"


def write(path: Path, *lines: str) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress("".join(lines).encode()))
    else:
        path.write_text("".join(lines))
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.gz"])
def test_trades_are_read_with_exact_values(tmp_path: Path, name: str) -> None:
    captured = read_captures([write(tmp_path / name, line(), line(t=3735683260, m=False, p="0.1"))])
    assert captured.unfit == 0
    assert captured.table().schema == SCHEMA
    assert captured.table().to_pylist() == [
        {
            "symbol": "BTCUSDT",
            "trade_id": 3735683259,
            "price": Decimal("61837.63000000"),
            "quantity": Decimal("0.02000000"),
            "side": "sell",
            "exchange_us": 1723161255342000,
        },
        {
            "symbol": "BTCUSDT",
            "trade_id": 3735683260,
            "price": Decimal("0.10000000"),
            "quantity": Decimal("0.02000000"),
            "side": "buy",
            "exchange_us": 1723161255342000,
        },
    ]


def test_a_compressed_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", line())
    assert read_captures([path.rename(tmp_path / "a.bin")]).count == 1


def test_other_streams_and_snapshots_are_no_trades(tmp_path: Path) -> None:
    lines = (line(), line("btcusdt@bookTicker"), '1723161253937085768 {"lastUpdateId":1}\n', "1723161253937085768 []\n")
    captured = read_captures([write(tmp_path / "a", *lines)])
    assert (captured.count, captured.unfit, list(captured.symbols)) == (1, 0, ["BTCUSDT"])


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(line(p="-1.00000000"), id="negative price"),
        pytest.param(line(p="0.00000000"), id="zero price"),
        pytest.param(line(p="NaN"), id="NaN"),
        pytest.param(line(p="."), id="no digits"),
        pytest.param(line(p="1.123456789"), id="over precision"),
        pytest.param(line(p="10000000000.0"), id="too large"),
        pytest.param(line(p=1.5), id="price as a number"),
        pytest.param(line(q="0"), id="zero quantity"),
        pytest.param(line(t="7"), id="id as text"),
        pytest.param(line(t=True), id="id as truth"),
        pytest.param(line(t=2**63), id="id too large"),
        pytest.param(line(T=1723161255), id="seconds for milliseconds"),
        pytest.param(line(m="yes"), id="side"),
        pytest.param(line(s="ETHUSDT"), id="another symbol"),
        pytest.param(line(e="aggTrade"), id="another event"),
        pytest.param('1 {"stream":"btcusdt@trade"}\n', id="no data"),
        pytest.param('1 {"stream":"btcusdt@trade","data":{"e":\n', id="broken JSON"),
        pytest.param("noise\n", id="no capture line"),
    ],
)
def test_what_cannot_become_a_record_is_counted_apart(tmp_path: Path, bad: str) -> None:
    captured = read_captures([write(tmp_path / "a", line(), bad, line(t=3735683260))])
    assert (captured.count, captured.unfit) == (2, 1)


def test_symbols_in_the_order_of_the_files(tmp_path: Path) -> None:
    first = write(tmp_path / "a", line("ethusdt@trade", s="ETHUSDT"))
    captured = read_captures([first, write(tmp_path / "b", line())])
    assert list(captured.symbols) == ["ETHUSDT", "BTCUSDT"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param(b"", "without a line", id="empty"),
        pytest.param(b'time,price\n1,"2"\n', "that begins with 'time,price\\\\n', expected lines of", id="a table"),
        pytest.param(b"1 {}\n", "no line of a trade stream", id="no trades"),
        pytest.param(gzip.compress(line().encode())[:-9], "end-of-stream", id="cut off"),
        pytest.param(b"\x1f\x8bnonsense", "a readable capture", id="no gzip"),
    ],
)
def test_files_that_are_no_captures_are_bad_input(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "a.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError, match=f"--capture: found .*{said}"):
        read_captures([path])


def test_one_of_several_files_that_is_no_capture_is_named(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text(line())
    bad.write_text("no capture\n")
    with pytest.raises(SpecError, match=f"found {bad} that begins with 'no capture"):
        read_captures([good, bad])
