"""k2_cli.replay's pure parts; replays themselves run in tests/integration."""

from __future__ import annotations

from pathlib import Path

import pytest

from k2_cli.replay import Account, _received, grown, json_lines
from k2_cli.stack.process import ManagedProcess
from k2_cli.supervisor import Child
from k2_cli.units import ProcessUnit
from k2_core.errors import SetupError
from k2_core.types import Offset, Partition, TopicName

A, B = (TopicName("t"), Partition(0)), (TopicName("t"), Partition(1))


def test_a_log_grows_by_what_its_ends_moved_and_new_topics_from_0() -> None:
    assert grown({A: Offset(10)}, {A: Offset(15), B: Offset(7)}) == 12
    assert grown({A: Offset(10)}, {A: Offset(10)}) == 0


def test_only_json_objects_of_a_log_are_read() -> None:
    text = '{"received": 3}\nnoise\n[1]\n{"level": "INFO"}\nTraceback {\n'
    assert json_lines(text) == [{"received": 3}, {"level": "INFO"}]


def child(tmp_path: Path, said: str) -> Child:
    process = ManagedProcess(name="ingest-a", command=["printf", "%s", said], log=tmp_path / "ingest-a.log")
    process.start()
    process.wait(60)
    return Child("ingest-a", ProcessUnit(process), 0)


def test_what_an_ingest_received_is_what_it_said_last(tmp_path: Path) -> None:
    assert _received(child(tmp_path, '{"message":"runs"}\n{"received":15863,"unacknowledged":0}\n')) == 15863


@pytest.mark.parametrize("said", ["", '{"received":"many"}\n'], ids=["nothing", "no number"])
def test_an_ingest_that_did_not_say_is_an_error(tmp_path: Path, said: str) -> None:
    with pytest.raises(SetupError, match="ingest-a: found no count of received trades in its log"):
        _received(child(tmp_path, said))


def test_the_account_has_the_documented_keys_in_order() -> None:
    account = Account(1, 2, 3, 4, 5, 6, 7.0, 8.0, None)
    assert list(account.document()) == [
        "received",
        "produced",
        "committed",
        "duplicates",
        "missing",
        "dead_lettered",
        "wall_s",
        "messages_per_s",
        "freshness_p99_s",
    ]
