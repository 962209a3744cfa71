"""The sink as a process, on a real Kafka and a real catalog: what goes in comes out, and everything else is said."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from k2_core.records import TRADES
from k2_core.schemas import RegistrySchemas
from k2_core.topics import (
    DETAIL_HEADER,
    OFFSET_HEADER,
    PARTITION_HEADER,
    REASON_HEADER,
    TOPIC_HEADER,
    dead_letter_topic,
    partition_of,
)
from k2_core.types import Symbol
from support.ingest import read_topic
from support.lake import committed_state
from support.records import encode, make_trades
from support.registry import API_PATH, LocalRegistry, Relay
from support.sink import SinkWorkspace
from support.waiting import wait_until

pytestmark = pytest.mark.kafka
SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT")


def test_what_was_produced_is_in_the_table_once_and_exactly(work: SinkWorkspace) -> None:
    trades = make_trades(5_000, symbols=SYMBOLS, seed=1)
    work.produce(trades)
    work.run_to_end()
    work.check(trades)


def test_a_sink_goes_on_where_the_last_one_stopped(work: SinkWorkspace) -> None:
    trades = make_trades(3_000, symbols=SYMBOLS, seed=2)
    work.produce(trades[:2_000])
    work.run_to_end()
    work.check(trades[:2_000])
    work.produce(trades[2_000:])
    work.run_to_end()
    work.check(trades)


def test_sigterm_reads_on_to_the_end_and_commits(work: SinkWorkspace) -> None:
    work.sink = {"commitIntervalSeconds": 3600}
    sink = work.start()
    sink.wait_said("partitions taken")
    trades = make_trades(2_000, symbols=SYMBOLS, seed=3)
    work.produce(trades)
    assert sink.terminate() == 0
    work.check(trades)


def test_what_is_no_record_is_kept_in_the_dead_letter_topic(work: SinkWorkspace) -> None:
    trades = make_trades(30, symbols=("BTCUSDT",), seed=4)
    bad = {
        3: (b"not a record at all", "foreign_format"),
        7: (encode(trades[0])[:-4], "truncated"),
        9: (encode(trades[0], schema_id=77), "unknown_schema_id"),
        11: (encode(trades[0] | {"price": -trades[0]["price"]}), "price_not_positive"),
        12: (None, "truncated"),
    }
    good = []
    for number, trade in enumerate(trades):
        if number in bad:
            work.produce_value(bad[number][0])
        else:
            work.produce_value(encode(trade))
            good.append(trade)
    assert work.producer.flush(30) == 0
    sink = work.run_to_end()
    work.check(good, dead_letters=len(bad))
    letters = read_topic(work.bootstrap_servers, dead_letter_topic(work.topic))
    found = {}
    for letter in letters:
        headers = {
            name: value.decode() for name, value in dict(letter.headers() or []).items() if isinstance(value, bytes)
        }
        assert (headers[TOPIC_HEADER], headers[PARTITION_HEADER]) == (work.topic, "0")
        assert "expected" in headers[DETAIL_HEADER]
        found[int(headers[OFFSET_HEADER])] = (letter.value(), headers[REASON_HEADER])
    assert found == bad
    assert len(letters) == len(bad)
    assert sink.said("committed")


def test_the_same_trades_again_are_counted_and_left_out(work: SinkWorkspace) -> None:
    trades = make_trades(1_000, symbols=SYMBOLS, seed=5)
    work.produce(trades)
    work.run_to_end()
    work.produce(trades)
    work.run_to_end()
    work.check(trades, duplicates=1_000)


def test_markers_of_transactions_count_and_what_was_aborted_is_not_seen(work: SinkWorkspace) -> None:
    trades = make_trades(60, symbols=("BTCUSDT",), seed=6)
    producer = Producer({"bootstrap.servers": work.bootstrap_servers, "transactional.id": work.namespace})
    producer.init_transactions(30)
    for number in range(0, 60, 20):
        producer.begin_transaction()
        for trade in trades[number : number + 20]:
            producer.produce(work.topic, value=encode(trade), partition=0)
        assert producer.flush(30) == 0  # an abort would drop what was not sent yet
        if number == 20:
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
    work.run_to_end()
    work.check(trades[:20] + trades[40:])
    state = committed_state(work.folder, work.namespace)
    assert state is not None
    at = state.partition(work.topic, next(iter(state.topics[work.topic].partitions)))
    assert at is not None
    assert at.next == 63
    assert at.markers == 23  # three markers, and the twenty records that were aborted


def test_its_figures_and_its_health_are_served(work: SinkWorkspace) -> None:
    sink = work.start()
    trades = make_trades(500, symbols=SYMBOLS, seed=7)
    work.produce(trades)
    wait_until(lambda: work.committed() == 500, "500 offsets in the table")
    wait_until(lambda: sink.metric("k2_sink_rows_committed_total") == 500, "the metric to follow")
    assert sink.metric("k2_sink_records_read_total") == 500
    assert sink.metric("k2_sink_owned_partitions") == work.partitions
    assert sink.metric("k2_degradation_level") == 0
    wait_until(lambda: sink.metric("k2_sink_unread_lag_records") == 0, "no lag")
    assert sink.get("/health").json() == {"status": "ok", "checks": {"commit": "ok", "owed": "ok"}}
    assert sink.terminate() == 0


def test_a_registry_that_is_away_stops_the_reading_and_loses_nothing(
    work: SinkWorkspace, registry: LocalRegistry
) -> None:
    trades = make_trades(400, symbols=SYMBOLS, seed=9)
    schema_id = RegistrySchemas(registry.url).id_for(work.topic, TRADES)
    for trade in trades:
        partition = partition_of(Symbol(trade["symbol"]), work.partitions)
        work.produce_value(encode(trade, schema_id=schema_id), int(partition))
    assert work.producer.flush(30) == 0
    relay = Relay(registry.port)
    sink = work.start(K2_SCHEMA_REGISTRY_URL=f"http://127.0.0.1:{relay.port}{API_PATH}")
    try:
        sink.wait_said("read: will be tried again")
        # Between two tries it may be well for a moment: nothing is read then.
        wait_until(lambda: sink.get("/health").status_code == 503, "the health that says so")
        relay.open()
        wait_until(lambda: work.committed() == 400, "all to be committed once the registry is there")
        assert sink.terminate() == 0
    finally:
        relay.close()
    work.check(trades)
