"""The capture format, plain and compressed."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from k2_core.errors import SetupError
from k2_ingest.exchange.captures import Captures
from k2_ingest.exchange.messages import Trade

DATA = b'{"e":"trade","E":1,"s":"BTCUSDT","t":7,"p":"2.50","q":"0.1","T":1723161255342,"m":true,"M":true}'


def line(receive_ns: int, stream: str, data: bytes = DATA) -> bytes:
    return b'%d {"stream":"%b","data":%b}\n' % (receive_ns, stream.encode(), data)


def test_a_trade_keeps_its_bytes_and_is_understood(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(line(5, "btcusdt@trade"))
    [event] = Captures((tmp_path / "a",))
    assert (event.stream, event.data, event.receive_ns) == ("btcusdt@trade", DATA, 5)
    assert event.trade == Trade("BTCUSDT", 7, 250_000_000, 10_000_000, 1_723_161_255_342_000, True)


def test_files_are_merged_by_receive_time(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(line(1, "a@depth") + line(4, "a@depth"))
    (tmp_path / "b.gz").write_bytes(gzip.compress(line(2, "b@depth") + line(3, "b@depth")))
    events = list(Captures((tmp_path / "a", tmp_path / "b.gz")))
    assert [event.receive_ns for event in events] == [1, 2, 3, 4]


def test_snapshots_and_torn_lines_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b'1 {"lastUpdateId":5,"bids":[]}\nx {}\n2 {"stream":\n' + line(3, "a@depth"))
    captures = Captures((tmp_path / "a",))
    assert [event.receive_ns for event in captures] == [3]
    assert captures.skipped == {"unwrapped": 1, "malformed": 2}


def test_torn_lines_can_be_passed_on_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(line(3, "a@depth") + b'4 {"stream":\n' + line(5, "a@depth"))
    events = list(Captures((tmp_path / "a",), pass_malformed=True))
    assert [(event.stream, event.receive_ns) for event in events] == [("a@depth", 3), (None, 3), ("a@depth", 5)]
    assert events[1].data == b'{"stream":'


@pytest.mark.parametrize("bad", [b'{"p":1}', DATA.replace(b"2.50", b"NaN")], ids=["other-fields", "not-a-number"])
def test_a_bad_trade_is_sent_but_not_remembered(tmp_path: Path, bad: bytes) -> None:
    (tmp_path / "a").write_bytes(line(1, "btcusdt@trade", bad))
    [event] = Captures((tmp_path / "a",))
    assert event.data == bad
    assert event.trade is None


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="expected a readable file"):
        list(Captures((tmp_path / "none",)))


def test_a_cut_off_archive_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(line(1, "a@depth") * 100)[:-20])
    with pytest.raises(SetupError, match=r"a\.gz"):
        list(Captures((tmp_path / "a.gz",)))
