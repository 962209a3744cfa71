"""Chunks into a batch: what becomes a row, what is left out and why, and that every offset is accounted for."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from k2_core.codec import BatchDecoder
from k2_core.errors import StorageUnavailableError
from k2_core.policy.classes import Priority
from k2_core.raw_files import Section
from k2_core.records import TRADES
from k2_core.schemas import PackagedSchemas
from k2_core.state import CommitState, LedgerEntry
from k2_core.types import Level, Offset, Partition, Symbol, TopicId, TopicName
from k2_sink.batch import CONFLICT_REASON, Batch, Chunk, DeadLetter
from k2_sink.dedup import SeenIds
from k2_sink.deferral import Deferring, KeyClasses
from k2_sink.protocol import Span
from support.lake import by_message_id, records_of, table_form
from support.records import Record, encode, make_trades

TOPIC = TopicName("market.crypto.trades.binance")
NOTHING_HELD = TRADES.table_schema.empty_table()


def chunk(values: list[bytes | None], first_offset: int = 0, partition: int = 0) -> Chunk:
    offsets = np.arange(first_offset, first_offset + len(values), dtype=np.int64)
    return Chunk(TOPIC, values, np.full(len(values), partition, dtype=np.int64), offsets)


def new_batch(seen: SeenIds | None = None, **positions: int) -> Batch:
    batch = Batch(TRADES, seen or SeenIds())
    for name, position in (positions or {"p0": 0}).items():
        batch.start_at((TOPIC, Partition(int(name[1:]))), Offset(position))
    return batch


def add(batch: Batch, values: Chunk, held: pa.Table = NOTHING_HELD) -> list[DeadLetter]:
    decoder = BatchDecoder(TRADES, PackagedSchemas().by_id)
    return batch.add(values, decoder, TopicId("topic-id"), lambda _: held)


def span(batch: Batch, partition: int = 0) -> Span:
    return batch.spans()[TOPIC, Partition(partition)]


def test_good_records_become_rows_with_their_position() -> None:
    trades = make_trades(20, seed=1)
    batch = new_batch(p0=100)
    assert add(batch, chunk([encode(trade) for trade in trades], 100)) == []
    rows = batch.table()
    assert records_of(rows) == trades
    assert rows.schema.equals(TRADES.table_schema)
    assert rows.column("kafka_offset").to_pylist() == list(range(100, 120))
    assert set(rows.column("kafka_partition").to_pylist()) == {0}
    assert set(rows.column("topic_id").to_pylist()) == {"topic-id"}
    assert rows.column("event_time").to_pylist() == [trade["exchange_timestamp"] for trade in trades]
    assert span(batch) == Span(Offset(100), Offset(120))
    assert batch.rows == 20


def test_event_time_is_the_receive_time_where_the_exchange_says_none() -> None:
    (trade,) = make_trades(1, seed=2)
    batch = new_batch()
    add(batch, chunk([encode(trade | {"exchange_timestamp": None})]))
    assert batch.table().column("event_time").to_pylist() == [trade["receive_timestamp"]]


def test_a_bad_record_is_a_dead_letter_with_its_bytes_position_and_reason() -> None:
    trades = make_trades(3, seed=3)
    values: list[bytes | None] = [encode(trades[0]), b"\x00garbage", encode(trades[2])]
    batch = new_batch(p0=7)
    (letter,) = add(batch, chunk(values, 7))
    assert (letter.topic, letter.partition, letter.offset, letter.value) == (TOPIC, 0, 8, b"\x00garbage")
    assert letter.reason == "unknown_schema_id"
    assert records_of(batch.table()) == [trades[0], trades[2]]
    assert span(batch) == Span(Offset(7), Offset(10), dead_letters=1)


def test_the_same_record_again_is_a_duplicate() -> None:
    trades = make_trades(5, symbols=("BTCUSDT",), seed=4)
    values = [encode(trade) for trade in trades]
    batch = new_batch()
    assert add(batch, chunk([*values, values[1], values[4]])) == []
    assert records_of(batch.table()) == trades
    assert span(batch) == Span(Offset(0), Offset(7), duplicates=2)
    assert add(batch, chunk([values[0]], 7)) == []
    assert span(batch) == Span(Offset(0), Offset(8), duplicates=3)


@pytest.mark.parametrize("where", ["chunk", "batch", "table"])
def test_the_same_id_with_other_content_is_kept_as_a_conflict(where: str) -> None:
    trades = make_trades(3, symbols=("BTCUSDT",), seed=5)
    other = encode(trades[1] | {"price": trades[1]["price"] + Decimal("0.01")})
    first = [encode(trade) for trade in trades]
    seen = SeenIds()
    batch = new_batch(seen)
    held = NOTHING_HELD
    match where:
        case "chunk":
            letters = add(batch, chunk([*first, other]))
        case "batch":
            add(batch, chunk(list(first)))
            letters = add(batch, chunk([other], 3))
        case _:
            add(batch, chunk(list(first)))
            seen.confirm()
            batch = new_batch(seen, p0=3)
            held = table_form(trades)
            letters = add(batch, chunk([other], 3), held)
    (letter,) = letters
    assert (letter.offset, letter.reason, letter.value) == (3, CONFLICT_REASON, other)
    assert str(trades[1]["price"]) in letter.detail
    assert (span(batch).dead_letters, span(batch).duplicates) == (1, 0)
    if where != "table":
        assert by_message_id(records_of(batch.table())) == by_message_id(trades)


def test_what_a_consumer_had_fetched_before_a_seek_is_passed_over() -> None:
    trades = make_trades(10, seed=6)
    values = [encode(trade) for trade in trades]
    batch = new_batch(p0=5)
    add(batch, chunk(list(values), 0))
    assert records_of(batch.table()) == trades[5:]
    assert span(batch) == Span(Offset(5), Offset(10))
    assert add(batch, chunk(list(values[:3]), 0)) == []
    assert span(batch) == Span(Offset(5), Offset(10))


def test_a_partition_that_is_not_owned_is_passed_over() -> None:
    batch = new_batch(p0=0)
    add(batch, chunk([encode(trade) for trade in make_trades(4, seed=7)], partition=1))
    assert batch.empty
    assert batch.table().num_rows == 0


def test_offsets_without_a_record_are_markers() -> None:
    trades = make_trades(4, seed=8)
    batch = new_batch()
    values = chunk([encode(trade) for trade in trades])
    values.offsets[:] = [0, 1, 4, 5]
    add(batch, values)
    batch.pass_to((TOPIC, Partition(0)), Offset(9))
    assert span(batch) == Span(Offset(0), Offset(9), markers=5)
    batch.pass_to((TOPIC, Partition(0)), Offset(3))
    assert span(batch).end == 9


def test_partitions_are_accounted_for_one_by_one() -> None:
    trades = make_trades(6, seed=9)
    batch = new_batch(p0=0, p3=50)
    mixed = Chunk(
        TOPIC,
        [*(encode(trade) for trade in trades[:3]), None, *(encode(trade) for trade in trades[3:])],
        np.array([0, 3, 0, 3, 3, 0, 3]),
        np.array([0, 50, 1, 51, 52, 2, 53]),
    )
    (letter,) = add(batch, mixed)
    assert (letter.partition, letter.offset, letter.reason) == (3, 51, "truncated")
    assert span(batch, 0) == Span(Offset(0), Offset(3))
    assert span(batch, 3) == Span(Offset(50), Offset(54), dead_letters=1)
    assert batch.positions() == {(TOPIC, 0): 3, (TOPIC, 3): 54}


def test_a_chunk_that_could_not_be_taken_is_taken_whole_the_next_time() -> None:
    trades = make_trades(5, symbols=("BTCUSDT",), seed=10)
    values = [encode(trade) for trade in trades]
    seen = SeenIds()
    first = new_batch(seen)
    add(first, chunk([values[0]]))
    seen.confirm()
    batch = new_batch(seen, p0=1)

    def away(_: pa.Table) -> pa.Table:
        raise StorageUnavailableError("gone")

    decoder = BatchDecoder(TRADES, PackagedSchemas().by_id)
    with pytest.raises(StorageUnavailableError):
        batch.add(chunk([*values[1:], values[0]], 1), decoder, TopicId("topic-id"), away)
    assert batch.empty
    add(batch, chunk([*values[1:], values[0]], 1), table_form(trades[:1]))
    assert records_of(batch.table()) == trades[1:]
    assert span(batch) == Span(Offset(1), Offset(6), duplicates=1)


AGGRESSIVE = Deferring(Level.AGGRESSIVE, KeyClasses({Symbol("BTCUSDT"): Priority.CRITICAL}), 1_000)


def defer(batch: Batch, trades: list[Record], first_offset: int = 0, deferring: Deferring = AGGRESSIVE) -> None:
    values = chunk([encode(trade) for trade in trades], first_offset)
    keyed = replace(values, keys=[trade["symbol"].encode() for trade in trades], first_ms={0: 55})
    decoder = BatchDecoder(TRADES, PackagedSchemas().by_id)
    assert batch.add(keyed, decoder, TopicId("topic-id"), lambda _: NOTHING_HELD, deferring) == []


def entry(start: int, end: int, records: int, *symbols: str) -> LedgerEntry:
    at = (TOPIC, Partition(0), Offset(start), Offset(end))
    return LedgerEntry(*at, symbols, 3, "level 3 defers low and normal", records, 1_000, 55)


def test_what_waits_is_no_row_and_is_owed_with_the_range_it_lies_in() -> None:
    trades = make_trades(20, symbols=("BTCUSDT", "ETHUSDT"), seed=11)
    batch = new_batch(p0=100)
    defer(batch, trades, 100)
    taken = [trade for trade in trades if trade["symbol"] == "BTCUSDT"]
    assert records_of(batch.table()) == taken
    assert span(batch) == Span(Offset(100), Offset(120), deferred=(entry(100, 120, 20 - len(taken), "ETHUSDT"),))
    assert batch.deferred == 20 - len(taken)


def test_the_ids_of_what_waits_are_not_held() -> None:
    trades = make_trades(5, symbols=("ETHUSDT",), seed=12)
    batch = new_batch()
    defer(batch, trades)
    assert add(batch, chunk([encode(trade) for trade in trades], 5)) == []
    assert records_of(batch.table()) == trades
    assert span(batch) == Span(Offset(0), Offset(10), deferred=(entry(0, 5, 5, "ETHUSDT"),))


def test_a_partition_waits_if_all_does_that_was_read_at_the_level() -> None:
    trades = make_trades(6, symbols=("BTCUSDT", "ETHUSDT"), seed=31)
    critical, normal = ([one for one in trades if one["symbol"] == name] for name in ("BTCUSDT", "ETHUSDT"))
    batch, at = new_batch(), (TOPIC, Partition(0))
    assert batch.waits(Level.AGGRESSIVE) == {}
    add(batch, chunk([encode(one) for one in critical]))
    defer(batch, normal, len(critical))
    assert batch.waits(Level.AGGRESSIVE) == {at: True}
    assert batch.waits(Level.GRACEFUL) == {}
    defer(batch, critical, len(trades))
    assert batch.waits(Level.AGGRESSIVE) == {at: False}


def test_a_stretch_lasts_over_markers_and_ends_where_the_level_does() -> None:
    batch = new_batch()
    defer(batch, make_trades(3, symbols=("ETHUSDT",), seed=13))
    batch.pass_to((TOPIC, Partition(0)), Offset(4))
    defer(batch, make_trades(2, symbols=("BTCUSDT",), seed=14), 4)
    add(batch, chunk([encode(trade) for trade in make_trades(2, symbols=("BNBUSDT",), seed=15)], 6))
    batch.pass_to((TOPIC, Partition(0)), Offset(9))
    defer(batch, make_trades(1, symbols=("XRPUSDT",), seed=16), 9)
    found = span(batch)
    assert found.deferred == (entry(0, 6, 3, "ETHUSDT"), entry(9, 10, 1, "XRPUSDT"))
    assert found.markers == 2


def test_the_next_batch_goes_on_with_the_entry_that_this_one_left() -> None:
    batch = new_batch()
    defer(batch, make_trades(4, symbols=("ETHUSDT", "BNBUSDT"), seed=17))
    left = span(batch).deferred
    state = CommitState("cluster", open_ledger=left)
    following = batch.following(state)
    assert following.ledger() == list(left)
    assert span(following) == Span(Offset(4), Offset(4), ledger=left)
    assert span(following).own_from == 0
    defer(following, make_trades(2, symbols=("ETHUSDT",), seed=18), 4)
    assert span(following).deferred == (entry(4, 6, 2, "BNBUSDT", "ETHUSDT"),)
    at = (TOPIC, Partition(0))
    again = following.restarted({at})
    assert span(again) == Span(Offset(4), Offset(4), ledger=left)
    assert following.restarted(set()).positions() == {}


def test_at_level_three_the_bytes_of_what_waits_are_kept_for_a_raw_file() -> None:
    trades = make_trades(20, symbols=("BTCUSDT", "ETHUSDT"), seed=19)
    batch = new_batch(p0=100)
    defer(batch, trades, 100)
    waiting = [(100 + at, encode(trade)) for at, trade in enumerate(trades) if trade["symbol"] == "ETHUSDT"]
    rows = batch.raw()[TOPIC]
    assert list(zip(rows.column("offset").to_pylist(), rows.column("value").to_pylist(), strict=True)) == waiting
    assert rows.column("key").to_pylist() == [b"ETHUSDT"] * len(waiting)
    assert rows.column("partition").to_pylist() == [0] * len(waiting)
    assert rows.column("timestamp_ms").to_pylist() == [-1] * len(waiting)
    assert batch.sections() == [Section(TOPIC, Partition(0), Offset(100), Offset(120), len(waiting))]
    assert (batch.held, batch.rows) == (20, 20 - len(waiting))
    batch.raw_file = "raw"
    (owed,) = span(batch).deferred
    assert owed.raw_file == "raw"
    following = batch.following(CommitState("cluster", open_ledger=(owed,)))
    assert (following.held, following.raw(), following.sections(), following.raw_file) == (0, {}, [], None)
    defer(following, make_trades(2, symbols=("ETHUSDT",), seed=18), 120)
    assert following.sections() == [Section(TOPIC, Partition(0), Offset(120), Offset(122), 2, previous="raw")]


def test_at_level_two_and_where_nothing_waits_no_bytes_are_kept() -> None:
    graceful = Deferring(Level.GRACEFUL, KeyClasses({Symbol("ETHUSDT"): Priority.LOW}), 1_000)
    batch = new_batch()
    defer(batch, make_trades(5, symbols=("ETHUSDT",), seed=20), deferring=graceful)
    defer(batch, make_trades(5, symbols=("BTCUSDT",), seed=21), 5)
    assert (batch.deferred, batch.held, batch.raw(), batch.sections()) == (5, 5, {}, [])


def test_times_stay_with_their_values() -> None:
    times = np.array([10, 20, 30], dtype=np.int64)
    whole = replace(chunk([b"a", b"b", b"c"]), keys=[b"A", b"B", b"C"], times_ms=times)
    part = whole.where(np.array([True, False, True]))
    assert part.times_ms is not None
    assert (part.times_ms.tolist(), part.values, part.keys) == ([10, 30], [b"a", b"c"], [b"A", b"C"])
