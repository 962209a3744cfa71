"""Dead letters as rows: where the bytes stood first says which letter it is, and what headers hold is not trusted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pyiceberg.io.pyarrow import schema_to_pyarrow

from k2_core.errors import StateError
from k2_core.letters import DLQ, LETTERS, READ_KEY, Letter, Place, Read, letter_rows, removed_row
from k2_core.types import Offset, Partition, TopicId, TopicName

PLACE = Place(TopicName("market.crypto.trades.binance.dlq"), TopicId("dlq-id"), Partition(0), Offset(7))
OF_A_SINK = {
    "k2.reason": b"truncated",
    "k2.detail": b"found 7, expected 9",
    "k2.topic": b"market.crypto.trades.binance",
    "k2.topic_id": b"topic-id",
    "k2.partition": b"3",
    "k2.offset": b"12",
}
OF_A_FILE = {
    "k2.reason": b"no_price",
    "k2.detail": b"found nothing",
    "k2.source": b"asx",
    "k2.dataset": b"asx/day",
    "k2.file": b"data/day.csv",
    "k2.digest": b"sha256:00ff",
    "k2.row": b"2",
}


def row(headers: dict[str, Any], value: bytes | None = b"\x00\xff", time_ms: int = 1_800_000_000_123) -> dict[str, Any]:
    rows = letter_rows([Letter(PLACE, headers, value, time_ms)])
    assert rows.schema == LETTERS
    (found,) = rows.to_pylist()
    return dict(found)


def test_a_letter_of_a_sink() -> None:
    assert row(OF_A_SINK) == {
        "letter_id": "log/topic-id/3/12",
        "reason": "truncated",
        "detail": "found 7, expected 9",
        "value": b"\x00\xff",
        "topic": "market.crypto.trades.binance",
        "topic_id": "topic-id",
        "kafka_partition": 3,
        "kafka_offset": 12,
        "source": None,
        "dataset": None,
        "file": None,
        "digest": None,
        "row": None,
        "letter_topic": "market.crypto.trades.binance.dlq",
        "letter_topic_id": "dlq-id",
        "letter_partition": 0,
        "letter_offset": 7,
        "letter_end": 8,
        "written_at": datetime(2027, 1, 15, 8, 0, 0, 123_000, tzinfo=UTC),
    }


def test_a_letter_that_was_a_line_of_a_file() -> None:
    found = row(OF_A_FILE)
    assert found["letter_id"] == "file/asx/day/sha256:00ff/2"
    names = ("source", "dataset", "file", "digest", "row", "topic", "kafka_offset")
    assert [found[name] for name in names] == ["asx", "asx/day", "data/day.csv", "sha256:00ff", 2, None, None]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"k2.reason": b"malformed_json", "k2.source": b"binance"}, id="of-an-exchange"),
        pytest.param({name: value for name, value in OF_A_SINK.items() if name != "k2.topic_id"}, id="of-no-topic-id"),
        pytest.param(OF_A_SINK | {"k2.offset": b"-1"}, id="no-offset"),
        pytest.param(OF_A_SINK | {"k2.partition": b"2147483648"}, id="partition-too-large"),
        pytest.param(OF_A_SINK | {"k2.offset": b"9223372036854775808"}, id="offset-too-large"),
        pytest.param(OF_A_SINK | {"k2.offset": b"9" * 5_000}, id="offset-much-too-large"),
        pytest.param(OF_A_SINK | {"k2.offset": "²".encode()}, id="digit-of-another-kind"),
        pytest.param(OF_A_SINK | {"k2.topic_id": None}, id="null"),
        pytest.param({}, id="without-headers"),
    ],
)
def test_what_has_no_place_is_known_by_its_own(headers: dict[str, bytes | None]) -> None:
    assert row(headers)["letter_id"] == "letter/dlq-id/0/7"


def test_what_no_column_can_hold_is_left_out_of_it() -> None:
    found = row({"k2.reason": b"\xff", "k2.row": b"x"}, value=None, time_ms=2**62)
    assert (found["reason"], found["row"], found["value"], found["written_at"]) == ("\ufffd", None, None, None)
    assert row({}, time_ms=-1)["written_at"] is None


def test_letters_that_nobody_read_are_a_row() -> None:
    (found,) = removed_row(PLACE, Offset(20)).cast(LETTERS).to_pylist()
    assert (found["letter_id"], found["reason"]) == ("removed/dlq-id/0/7", "removed_unread")
    assert (found["letter_offset"], found["letter_end"], found["value"]) == (7, 20, None)
    assert found["detail"].startswith("found the topic from offset 20, expected it from 7")


def test_the_row_is_the_tables() -> None:
    theirs = schema_to_pyarrow(DLQ.iceberg_schema)
    assert [(field.name, field.nullable) for field in theirs] == [(field.name, field.nullable) for field in LETTERS]
    assert all(field.doc for field in DLQ.iceberg_schema.fields)


class TestRead:
    def test_it_is_kept_as_text(self) -> None:
        read = Read({(TopicId("a"), Partition(0)): Offset(5), (TopicId("a"), Partition(1)): Offset(7)})
        assert read.dump() == '{"format": 1, "topics": {"a": {"0": 5, "1": 7}}}'
        assert Read.of({READ_KEY: read.dump()}) == read

    def test_at_first_nothing_is(self) -> None:
        assert Read.of({}) == Read({})

    @pytest.mark.parametrize(
        "text",
        ["", "[]", "{}", '{"format":2,"topics":{}}', '{"format":1,"topics":[]}', '{"format":1,"topics":{"a":{"x":1}}}'],
    )
    def test_what_is_none_of_ours_is_refused(self, text: str) -> None:
        with pytest.raises(StateError, match=r"k2.read: found .*, expected format 1 with topics"):
            Read.of({READ_KEY: text})
