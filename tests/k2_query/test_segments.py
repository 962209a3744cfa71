from __future__ import annotations

import random
import threading
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from k2_core.records import TRADES
from k2_core.types import Offset, Partition, TopicId, TopicName
from k2_query.boundary import LogPartition, LogRange
from k2_query.params import to_us
from k2_query.segments import SEGMENT_ROWS, TailStore, Window, event_times_us
from support.query import BASE, Record, event_time, make_record, make_records
from support.records import arrow_rows

TOPIC = TopicName("market.crypto.trades.binance")
AT = [LogPartition(TOPIC, Partition(number)) for number in range(3)]
EVERYTHING = Window(None, 0, 2**62)


def store_of(max_bytes: int = 2**40) -> TailStore:
    store = TailStore(TRADES, max_bytes)
    store.restart(dict.fromkeys(AT, Offset(0)), {TOPIC: TopicId("the-id")})
    return store


def append(store: TailStore, partition: int, records: list[Record]) -> None:
    start = store.covered()[AT[partition]][1]
    slots = np.full(len(records), store.slot(AT[partition]), dtype=np.int64)
    offsets = np.arange(start, start + len(records), dtype=np.int64)
    store.append(arrow_rows(records), slots, offsets, {store.slot(AT[partition]): start + len(records)})


def whole(partition: int = 0, start: int = 0, end: int = 10**9) -> LogRange:
    return LogRange(AT[partition], Offset(start), Offset(end))


def window(symbol: str | None, start: datetime, end: datetime) -> Window:
    return Window(symbol, to_us(start), to_us(end))


def test_a_view_gives_the_rows_of_window_and_range_in_the_table_s_form() -> None:
    store = store_of()
    bitcoin, ether = make_records("BTCUSDT", 1, 30, BASE), make_records("ETHUSDT", 1, 30, BASE)
    append(store, 0, bitcoin + ether)
    append(store, 1, make_records("BNBUSDT", 1, 5, BASE))
    start, end = BASE + timedelta(milliseconds=50), BASE + timedelta(milliseconds=250)

    rows, evicted = store.view().select(window("ETHUSDT", start, end), [whole(0, 0, 50), whole(1)])

    assert evicted == ()
    assert rows.schema == TRADES.table_schema
    expected = [one for at, one in enumerate(bitcoin + ether) if at < 50 and one["symbol"] == "ETHUSDT"]
    expected = [one for one in expected if start <= event_time(one) < end]
    assert rows.column("message_id").to_pylist() == [one["message_id"] for one in expected]
    first = rows.slice(0, 1).to_pylist()[0]
    assert (first["topic_id"], first["kafka_partition"], first["kafka_offset"]) == ("the-id", 0, 35)
    assert first["event_time"] == event_time(expected[0])


@pytest.mark.parametrize("seed", range(5))
def test_any_polls_and_trims_leave_what_a_list_would(seed: int) -> None:
    draw = random.Random(seed)
    store = store_of()
    kept: dict[int, list[Record]] = {0: [], 1: [], 2: []}
    trimmed = dict.fromkeys(kept, 0)
    for number in range(120):
        partition = draw.randrange(3)
        symbol = draw.choice(["BTCUSDT", "ETHUSDT"])
        records = make_records(symbol, number * 100, draw.choice([0, 1, 1, 2, 40]), BASE + timedelta(seconds=number))
        kept[partition] += records
        append(store, partition, records)
        if draw.random() < 0.1:
            trimmed[partition] = draw.randint(trimmed[partition], len(kept[partition]))
            store.trim({AT[partition]: Offset(trimmed[partition])})
    view = store.view()
    for asked in ("BTCUSDT", "ETHUSDT", None, "XRPUSDT"):
        for partition, records in kept.items():
            rows, _ = view.select(Window(asked, 0, 2**62), [whole(partition)])
            left = records[trimmed[partition] :]
            expected = [one["message_id"] for one in left if asked in {None, one["symbol"]}]
            assert sorted(rows.column("message_id").to_pylist()) == sorted(expected)
    assert store.rows == sum(len(records) - trimmed[partition] for partition, records in kept.items())
    assert len(view.segments) < 24


def test_small_polls_merge_and_large_segments_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2_query.segments.SEGMENT_ROWS", 64)
    store = store_of()
    for number in range(300):
        append(store, 0, make_records("BTCUSDT", number, 1, BASE))
    sizes = [segment.size for segment in store.view().segments]
    assert sum(sizes) == 300
    assert max(sizes) <= 64
    assert len(sizes) <= 300 / 32 + 7
    assert SEGMENT_ROWS > 64


def test_rows_beyond_the_byte_limit_are_evicted_oldest_first_and_indexed() -> None:
    store = store_of(max_bytes=60_000)
    for number in range(20):
        append(store, 0, make_records("BTCUSDT", number * 50, 50, BASE + timedelta(minutes=number)))
    assert store.nbytes <= 60_000
    assert 0 < store.rows < 1000
    assert store.evicted_rows == 1000 - store.rows
    view = store.view()
    rows, evicted = view.select(EVERYTHING, [whole()])
    assert rows.num_rows == store.rows
    assert evicted[0].start == 0
    assert sum(len(part) for part in evicted) == store.evicted_rows
    assert view.covered(AT[0]) == (0, 1000)
    _, later = view.select(window("BTCUSDT", BASE + timedelta(minutes=19), BASE + timedelta(hours=1)), [whole()])
    _, other = view.select(window("ETHUSDT", BASE, BASE + timedelta(hours=1)), [whole()])
    _, clipped = view.select(EVERYTHING, [whole(0, 10, 20)])
    assert (later, other) == ((), ())
    assert clipped == (whole(0, 10, 20),)
    store.trim({AT[0]: Offset(int(evicted[0].end) - 5)})
    _, rest = store.view().select(EVERYTHING, [whole()])
    assert len(rest[0]) == 5


def test_a_lease_keeps_what_was_there_and_lets_go_at_its_end() -> None:
    store = store_of()
    append(store, 0, make_records("BTCUSDT", 0, 10, BASE))
    store.trim({AT[0]: Offset(2)})
    with store.lease():
        store.trim({AT[0]: Offset(8)})
        assert store.view().covered(AT[0]) == (2, 10)
    store.trim({AT[0]: Offset(8)})
    assert store.view().covered(AT[0]) == (8, 10)
    assert store.rows == 2


def test_a_view_stays_valid_after_a_trim() -> None:
    store = store_of()
    append(store, 0, make_records("BTCUSDT", 0, 10, BASE))
    view = store.view()
    store.trim({AT[0]: Offset(10)})
    assert view.select(EVERYTHING, [whole()])[0].num_rows == 10
    assert store.view().select(EVERYTHING, [whole()])[0].num_rows == 0


def test_a_trim_never_passes_what_was_read_nor_touches_strangers() -> None:
    store = store_of()
    append(store, 0, make_records("BTCUSDT", 0, 3, BASE))
    store.trim({AT[0]: Offset(50), LogPartition(TopicName("other"), Partition(0)): Offset(5)})
    assert store.view().covered(AT[0]) == (3, 3)
    assert store.view().covered(LogPartition(TopicName("other"), Partition(0))) == (0, 0)


def test_positions_move_without_rows() -> None:
    store = store_of()
    store.append(TRADES.wire_schema.empty_table(), np.empty(0, np.int64), np.empty(0, np.int64), {1: 7})
    assert store.covered()[AT[1]] == (0, 7)
    assert store.rows == 0


def test_waiting_ends_when_the_positions_are_reached() -> None:
    store = store_of()
    assert not store.wait_for({AT[0]: Offset(1)}, 0.01)
    assert not store.wait_for({LogPartition(TopicName("other"), Partition(0)): Offset(1)}, 0.01)
    assert store.is_behind

    def write() -> None:
        store.linger(30)
        append(store, 0, make_records("BTCUSDT", 0, 2, BASE))

    writer = threading.Thread(target=write)
    writer.start()
    assert store.wait_for({AT[0]: Offset(2)}, 30), "linger ends as soon as somebody waits"
    writer.join()
    assert store.wait_for({AT[0]: Offset(2)}, 0)
    assert not store.is_behind


def test_a_restart_forgets_everything_even_under_a_lease() -> None:
    store = store_of()
    append(store, 0, make_records("BTCUSDT", 0, 10, BASE))
    with store.lease():
        store.restart({AT[0]: Offset(5)}, {TOPIC: TopicId("new")})
        append(store, 0, make_records("BTCUSDT", 5, 1, BASE))
    assert store.view().covered(AT[0]) == (5, 6)
    assert store.view().topic_ids == {TOPIC: "new"}
    assert store.rows == 1


@pytest.mark.parametrize("missing", [[], [1], [0, 1, 2]], ids=["none", "one", "all"])
def test_event_time_is_the_exchange_s_or_else_the_time_of_receipt(missing: list[int]) -> None:
    records = [
        make_record("BTCUSDT", at, BASE, **({"exchange_timestamp": None} if at in missing else {})) for at in range(3)
    ]
    assert event_times_us(arrow_rows(records)).tolist() == [to_us(event_time(record)) for record in records]


@pytest.mark.parametrize(
    ("start_us", "end_us", "expected"),
    [(0, 1, 1), (90_000, 90_001, 1), (90_001, 10**9, 0), (-5, 0, 0)],
    ids=["first", "last", "after", "before"],
)
def test_the_index_includes_its_ends(start_us: int, end_us: int, expected: int) -> None:
    store = store_of()
    append(store, 0, make_records("BTCUSDT", 0, 10, BASE))
    rows, _ = store.view().select(Window("BTCUSDT", to_us(BASE) + start_us, to_us(BASE) + end_us), [whole()])
    assert rows.num_rows == expected


def test_nothing_is_copied_per_row_when_the_index_says_no() -> None:
    store = store_of()
    append(store, 0, make_records("BTCUSDT", 0, 10, BASE))
    rows, _ = store.view().select(window("BTCUSDT", BASE + timedelta(days=1), BASE + timedelta(days=2)), [whole()])
    assert rows.equals(TRADES.table_schema.empty_table())
    assert isinstance(rows, pa.Table)
