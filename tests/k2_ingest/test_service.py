"""The whole process on a real exchange and a real Kafka: what goes in comes out, whatever happens in between."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from decimal import Decimal
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from websockets.asyncio.server import ServerConnection, serve

from k2_cli.stack.kafka import LocalKafka
from k2_core.config import ServiceSettings
from k2_core.errors import SpecError
from k2_core.kafka import KafkaAdmin
from k2_core.service_report import ServiceReport
from k2_core.spec import IngestionSpec, parse_pipeline
from k2_core.topics import dead_letter_topic, partition_of
from k2_core.types import Symbol
from k2_ingest.exchange.config import CaptureSource, ExchangeConfig, Limits, SyntheticSource
from k2_ingest.exchange.synthetic import Market
from k2_ingest.files.service import FileService
from k2_ingest.service import IngestService, choose_source, rest_server, service_for, symbols_place
from k2_ingest.settings import IngestSettings
from support.captures import capture_files
from support.ingest import IngestProcess, Workspace, exchange_status, running_exchange
from support.waiting import wait_until

pytestmark = pytest.mark.kafka

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
SEED = 20_261_121


def source(count: int, rate: float = 0) -> SyntheticSource:
    return SyntheticSource(SYMBOLS, rate=rate, seed=SEED, count=count)


def made(count: int) -> set[tuple[str, int, Decimal, Decimal, str]]:
    return {
        (
            draft.symbol,
            draft.trade_id,
            Decimal(draft.price) / 10**8,
            Decimal(draft.quantity) / 10**8,
            "sell" if draft.buyer_is_maker else "buy",
        )
        for draft in islice(Market(SYMBOLS, SEED), count)
    }


def stored(rows: list[dict[str, Any]]) -> list[tuple[str, int, Decimal, Decimal, str]]:
    return [(row["symbol"], row["sequence"], row["price"], row["quantity"], row["side"]) for row in rows]


def ids(workspace: Workspace) -> dict[str, list[int]]:
    """Ids by symbol, in the order of the log."""
    found: dict[str, list[int]] = {}
    rows = workspace.rows()
    for symbol, sequence in zip(rows["symbol"].to_pylist(), rows["sequence"].to_pylist(), strict=True):
        found.setdefault(symbol, []).append(sequence)
    return found


def test_all_that_goes_in_comes_out(workspace: Workspace) -> None:
    with running_exchange(ExchangeConfig(source(20_000))) as exchange:
        assert workspace.start(exchange).wait() == 0
    rows = workspace.rows().to_pylist()
    assert len(rows) == 20_000
    assert set(stored(rows)) == made(20_000)
    assert all(row["message_id"] == f"binance:spot:{row['symbol']}:{row['sequence']}" for row in rows)
    for message in workspace.messages()[:1_000]:
        key = message.key()
        assert isinstance(key, bytes)
        assert message.partition() == partition_of(Symbol(key.decode()), workspace.partitions)
    assert all(after == before + 1 for column in ids(workspace).values() for before, after in pairwise(column))


@pytest.mark.captures
def test_a_real_capture_comes_out_as_it_was_recorded(workspace: Workspace) -> None:
    files = tuple(capture_files("binance-ws", "*.gz"))
    with running_exchange(ExchangeConfig(CaptureSource(files))) as exchange:
        assert workspace.start(exchange).wait() == 0
    recorded = [
        json.loads(line.partition(b" ")[2])["data"]
        for file in files
        for line in gzip.decompress(file.read_bytes()).splitlines()
        if b"@trade" in line
    ]
    rows = workspace.rows().to_pylist()
    assert len(rows) == len(recorded) > 10_000
    assert {
        (r["s"], r["t"], Decimal(r["p"]), Decimal(r["q"]), "sell" if r["m"] else "buy", r["T"] * 1_000, str(r["E"]))
        for r in recorded
    } == {
        (*one, int(row["exchange_timestamp"].timestamp() * 1_000) * 1_000, dict(row["vendor_data"])["E"])
        for one, row in zip(stored(rows), rows, strict=True)
    }


def test_bad_messages_become_dead_letters_and_the_rest_flows_on(workspace: Workspace, tmp_path: Path) -> None:
    good = (
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":%d,"p":"1.0","q":"2.0",'
        b'"T":1723161255342,"m":true,"M":true}}'
    )
    bad = {
        good.replace(b"1.0", b"NaN") % 2: "price_malformed",
        good.replace(b"2.0", b"-2.0") % 3: "quantity_not_positive",
        good.replace(b"1.0", b"1.000000001") % 4: "price_precision",
        b'{"stream":"btcusdt@trade","data":{"e":"tr': "malformed_json",
    }
    lines = [good % 1, *bad, good % 5]
    (tmp_path / "capture").write_bytes(b"".join(b"%d %b\n" % (at, line) for at, line in enumerate(lines)))
    with running_exchange(ExchangeConfig(CaptureSource((tmp_path / "capture",), pass_malformed=True))) as exchange:
        process = workspace.start(exchange)
        assert process.wait() == 0
    assert ids(workspace) == {"BTCUSDT": [1, 5]}
    letters = workspace.messages(dead_letter_topic(workspace.topic))
    headers = [dict(letter.headers() or []) for letter in letters]
    reasons = {letter.value(): header["k2.reason"] for letter, header in zip(letters, headers, strict=True)}
    assert reasons == {payload: reason.encode() for payload, reason in bad.items()}
    assert all(header["k2.source"] == b"binance" and header["k2.detail"] for header in headers)
    assert process.said("ingest stops")[0]["dead_lettered"] == len(bad)


def test_a_killed_process_leaves_a_visible_gap_and_no_duplicate(workspace: Workspace) -> None:
    with running_exchange(ExchangeConfig(source(10**9, rate=3_000))) as exchange:
        first = workspace.start(exchange)
        wait_until(lambda: first.metric("k2_ingest_records_acknowledged_total") > 3_000, "3,000 acknowledged trades")
        first.kill()
        second = workspace.start(exchange)
        wait_until(lambda: second.metric("k2_ingest_records_acknowledged_total") > 1_000, "1,000 more")
        second.terminate()
        assert second.wait() == 0
        streams = exchange_status(exchange)["streams"]
    check_all_written_once_or_told(workspace, streams)


@pytest.mark.faults
@pytest.mark.parametrize("seed", [SEED, SEED + 1, SEED + 2])
def test_killed_again_and_again_at_any_moment(workspace: Workspace, seed: int) -> None:
    """Each a moment after so many acknowledged trades, or anywhere from the beginning of its start."""
    draw = Random(seed)
    moments = [(draw.randrange(1_000, 5_000), draw.uniform(0, 0.3))]  # in an empty log nobody sees a gap
    moments += [
        (0, draw.uniform(0, 2)) if draw.random() < 0.5 else (draw.randrange(1, 5_000), draw.uniform(0, 0.3))
        for _ in range(4)
    ]
    with running_exchange(ExchangeConfig(source(10**9, rate=3_000))) as exchange:
        for acknowledged, after_s in moments:
            process = workspace.start(exchange)
            if acknowledged:
                wait_acknowledged(process, acknowledged)
            time.sleep(after_s)
            process.kill()
        last = workspace.start(exchange)
        wait_acknowledged(last, 1_000)
        last.terminate()
        assert last.wait() == 0
        streams = exchange_status(exchange)["streams"]
    check_all_written_once_or_told(workspace, streams)


def wait_acknowledged(process: IngestProcess, count: int) -> None:
    wait_until(lambda: process.metric("k2_ingest_records_acknowledged_total") >= count, f"{count} acknowledged trades")


def check_all_written_once_or_told(workspace: Workspace, streams: dict[str, Any]) -> None:
    """Each id up to a symbol's last is in the log once and in order, or was told as missing by a process, not both."""
    told: dict[str, set[int]] = {symbol: set() for symbol in SYMBOLS}
    for process in workspace.processes:
        for line in process.said("trades are missing"):
            told[line["symbol"]] |= set(range(line["first_id"], line["last_id"] + 1))
    found = ids(workspace)
    assert found.keys() == set(SYMBOLS)
    for symbol, column in found.items():
        every = set(range(streams[f"{symbol.lower()}@trade"]["first_id"], column[-1] + 1))
        assert len(column) == len(set(column))
        assert column == sorted(column)
        assert told[symbol] == every - set(column)
        assert told[symbol]


def test_a_dropped_connection_is_replaced_and_the_gap_is_counted(workspace: Workspace) -> None:
    limits = Limits(connection_lifetime_s=1.0)
    began_s = time.time()
    with running_exchange(ExchangeConfig(source(10**9, rate=2_000), limits=limits)) as exchange:
        process = workspace.start(exchange)
        wait_until(lambda: process.metric("k2_ingest_connections_total") >= 2, "a second connection")
        wait_until(lambda: process.metric("k2_ingest_sequence_missing") > 0, "a gap")
        assert 0 < process.metric("k2_ingest_sequence_longest_gap_ids") <= process.metric("k2_ingest_sequence_missing")
        assert process.metric("k2_ingest_gap_threshold_ids") == 1
        heard_s = process.metric("k2_ingest_last_message_timestamp_seconds")
        assert began_s < heard_s < time.time()
        wait_until(lambda: process.metric("k2_ingest_last_message_timestamp_seconds") > heard_s, "a later message")
        process.terminate()
        assert process.wait() == 0
        missing = sum(len(range(line["first_id"], line["last_id"] + 1)) for line in process.said("trades are missing"))
        status = exchange_status(exchange)["streams"].values()
    found = ids(workspace)
    emitted = sum(stream["emitted"] for stream in status)
    after_the_last = sum(
        stream["last_id"] - found[symbol][-1] for stream, symbol in zip(status, sorted(found), strict=True)
    )
    assert sum(map(len, found.values())) + missing + after_the_last == emitted


def test_a_small_queue_holds_the_exchange_back_and_loses_nothing(workspace: Workspace) -> None:
    with running_exchange(ExchangeConfig(source(50_000))) as exchange:
        process = workspace.start(exchange, K2_INGEST_QUEUE_RECORDS="1000", K2_INGEST_STOP_AT_END="false")
        wait_until(lambda: process.metric("k2_ingest_records_acknowledged_total") == 50_000, "all acknowledged")
        assert process.metric("k2_ingest_pauses_total") > 0
        process.terminate()
        assert process.wait() == 0
    assert set(stored(workspace.rows().to_pylist())) == made(50_000)


def test_sigterm_drains(workspace: Workspace) -> None:
    with running_exchange(ExchangeConfig(source(10**9, rate=3_000))) as exchange:
        process = workspace.start(exchange)
        wait_until(lambda: process.metric("k2_ingest_records_acknowledged_total") > 1_000, "1,000 acknowledged trades")
        assert process.health().status_code == httpx.codes.OK
        process.terminate()
        assert process.wait() == 0
    [last] = process.said("all is in the log")
    assert last["unacknowledged"] == 0
    assert last["received"] == workspace.rows().num_rows


def test_sigterm_during_the_start_is_heard(workspace: Workspace) -> None:
    with running_exchange(ExchangeConfig(source(10**9, rate=100))) as exchange:
        process = workspace.start(exchange)
        wait_until(lambda: process.said("") or process.lines, "its first line")
        process.terminate()
        assert process.wait() == 0


def test_an_exchange_that_is_not_there_is_retried_and_said(workspace: Workspace) -> None:
    with running_exchange(ExchangeConfig(source(10))) as exchange:
        environment = workspace.environment(exchange)
    process = workspace.start(exchange_gone(environment), **environment)
    line = process.wait_said("no connection to the venue")
    assert "expected a WebSocket" in line["reason"]
    assert process.health().status_code == httpx.codes.SERVICE_UNAVAILABLE
    process.terminate()
    assert process.wait() == 0


def exchange_gone(environment: dict[str, str]) -> Any:
    class Gone:
        websocket_url = environment["K2_INGEST_URL"]
        rest_url = environment["K2_INGEST_REST_URL"]

    return Gone()


@pytest.mark.faults
def test_a_broker_that_goes_away_costs_nothing(tmp_path: Path) -> None:
    with LocalKafka(tmp_path / "kafka") as broker:
        workspace = Workspace(broker.bootstrap_servers, tmp_path)
        with running_exchange(ExchangeConfig(source(10**9, rate=2_000))) as exchange:
            process = workspace.start(exchange)
            wait_until(lambda: process.metric("k2_ingest_records_acknowledged_total") > 1_000, "1,000 acknowledged")
            broker.stop()
            process.wait_said("no kafka broker answers")
            assert process.health().status_code == httpx.codes.SERVICE_UNAVAILABLE
            broker.start()
            process.wait_said("kafka answers again")
            process.terminate()
            assert process.wait() == 0
        assert len(process.said("no kafka broker answers")) == 1
        assert len(process.said("kafka answers again")) == 1
        [last] = process.said("all is in the log")
        rows = workspace.rows().to_pylist()
        assert len(rows) == last["received"]
        assert set(stored(rows)) == made(len(rows))


@pytest.mark.faults
def test_a_broker_that_stays_away_is_told_truthfully(tmp_path: Path) -> None:
    with LocalKafka(tmp_path / "kafka") as broker:
        workspace = Workspace(broker.bootstrap_servers, tmp_path)
        with running_exchange(ExchangeConfig(source(10**9, rate=500))) as exchange:
            process = workspace.start(exchange, K2_INGEST_FLUSH_TIMEOUT_S="1")
            wait_until(lambda: process.metric("k2_ingest_records_acknowledged_total") > 100, "100 acknowledged")
            broker.stop()
            process.wait_said("no kafka broker answers")
            wait_until(lambda: process.metric("k2_ingest_queue_records") > 10, "waiting records")
            process.terminate()
            assert process.wait() == 4
        assert process.said("has not acknowledged")[0]["unacknowledged"] > 10


@pytest.mark.parametrize(
    ("variable", "value", "word"),
    [
        ("K2_INGEST_SOURCE", "nasdaq", "found 'nasdaq', expected one of binance"),
        ("K2_PIPELINE_FILE", "/nowhere.yaml", "/nowhere.yaml"),
        ("K2_INGEST_TIME_UNIT", "hour", "K2_INGEST_TIME_UNIT"),
    ],
)
def test_wrong_settings_are_one_line_and_exit_2(workspace: Workspace, variable: str, value: str, word: str) -> None:
    environment = {"K2_INGEST_URL": "ws://127.0.0.1:9", "K2_INGEST_REST_URL": "http://127.0.0.1:9", variable: value}
    process = workspace.start(exchange_gone(environment), **{variable: value})
    assert process.wait() == 2
    [line] = process.lines
    assert word in line["message"]


def test_a_source_is_chosen_by_name() -> None:
    def one(name: str) -> dict[str, Any]:
        return {"name": name, "venue": "binance", "symbols": [{"name": "BTCUSDT"}]}

    document: dict[str, Any] = {"apiVersion": "k2.dev/v1alpha1", "kind": "K2Pipeline", "metadata": {"name": "x"}}
    pipeline = parse_pipeline(document | {"spec": {"ingestion": [one("a"), one("b")]}})
    assert choose_source(pipeline, "b").name == "b"
    with pytest.raises(SpecError, match="found None, expected one of a, b"):
        choose_source(pipeline, None)


def test_a_venue_that_closes_normally_and_is_gone_has_finished(workspace: Workspace) -> None:
    async def talk(connection: ServerConnection) -> None:
        await connection.send('{"e":"serverShutdown","E":1}')

    async def test() -> None:
        async with serve(talk, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            environment = {"K2_INGEST_URL": f"ws://127.0.0.1:{port}", "K2_INGEST_REST_URL": "http://127.0.0.1:9"}
            process = workspace.start(exchange_gone(environment), **environment)
            assert await asyncio.to_thread(process.wait) == 0
            assert process.said("the venue says")[0]["notice"] == "server_shutdown"

    asyncio.run(test())


def test_a_topic_that_refuses_records_ends_the_process(workspace: Workspace) -> None:
    admin = AdminClient({"bootstrap.servers": workspace.bootstrap_servers})
    small = NewTopic(workspace.topic, workspace.partitions, 1, config={"max.message.bytes": "100"})
    admin.create_topics([small])[workspace.topic].result(20)
    with running_exchange(ExchangeConfig(source(10**9, rate=1_000))) as exchange:
        process = workspace.start(exchange, K2_INGEST_FLUSH_TIMEOUT_S="1")
        assert process.wait() == 3
    assert process.said("has not acknowledged")[0]["unacknowledged"] > 0
    assert "expected every record to be acknowledged" in process.lines[-1]["message"]


def test_a_source_of_files_is_read_and_not_listened_to() -> None:
    document: dict[str, Any] = {"apiVersion": "k2.dev/v1alpha1", "kind": "K2Pipeline", "metadata": {"name": "x"}}
    exchange = {"name": "a", "venue": "binance", "symbols": [{"name": "BTCUSDT"}]}
    files = {"name": "b", "venue": "asx", "files": [{"name": "c", "path": "c.csv", "symbol": "BHP"}]}
    pipeline = parse_pipeline(document | {"spec": {"ingestion": [exchange, files]}})
    assert isinstance(service_for(IngestSettings(ingest_source="a"), pipeline), IngestService)
    assert isinstance(service_for(IngestSettings(ingest_source="b"), pipeline), FileService)


def told(workspace: Workspace) -> list[ServiceReport | None]:
    admin = KafkaAdmin(ServiceSettings(kafka_bootstrap_servers=workspace.bootstrap_servers))
    return [ServiceReport.parse(text) for text in admin.group_words(f"k2.{workspace.namespace}.test.symbols")]


def test_a_symbol_that_the_exchange_does_not_know_keeps_no_other_from_flowing(workspace: Workspace) -> None:
    workspace.symbols = ("BTCUSDT", "BTCUSDX", "ETHUSDT")
    with running_exchange(ExchangeConfig(SyntheticSource(SYMBOLS[:2], rate=500, seed=SEED))) as exchange:
        process = workspace.start(exchange, K2_INGEST_SYMBOLS_PAUSE_S="0.2")
        wait_until(lambda: process.metric("k2_ingest_records_acknowledged_total") > 100, "trades")
        [line] = process.said("does not know BTCUSDX")
        assert line["symbols"] == ["BTCUSDX"]
        assert "Correct spec.ingestion[0].symbols" in line["message"]
        assert process.metric("k2_ingest_unknown_symbols") == 1
        health = process.health()
        assert (health.status_code, health.json()["checks"]) == (
            httpx.codes.SERVICE_UNAVAILABLE,
            {"venue": "ok", "kafka": "ok", "symbols": line["message"]},
        )
        assert process.get("readyz").is_success
        reports = wait_until(lambda: told(workspace), "a report")
        assert [(one.service, one.reason, one.problem) for one in reports] == [
            ("binance", "UnknownSymbol", line["message"])
        ]
        streams = exchange_status(exchange)["streams"]
        port = exchange.port
    assert set(streams) == {"btcusdt@trade", "ethusdt@trade"}
    later = SyntheticSource(workspace.symbols, rate=500, seed=SEED)
    with running_exchange(ExchangeConfig(later, port=port)):
        wait_until(lambda: "BTCUSDX" in ids(workspace), "trades of what is listed now")
        process.wait_said("knows all symbols now")
        wait_until(lambda: process.health().is_success, "a healthy process")
        process.terminate()
        assert process.wait() == 0
    assert len(process.said("does not know")) == 1


def test_it_waits_for_symbols_that_the_exchange_does_not_know(workspace: Workspace) -> None:
    workspace.symbols = ("BTCUSDX", "ETHUSDX")
    with running_exchange(ExchangeConfig(SyntheticSource(SYMBOLS, rate=500))) as exchange:
        process = workspace.start(exchange, K2_INGEST_SYMBOLS_PAUSE_S="0.1")
        assert "BTCUSDX, ETHUSDX; nothing is received" in process.wait_said("does not know")["message"]
        process.wait_said("ingest runs")
        wait_until(lambda: told(workspace), "a report")
        assert process.metric("k2_ingest_connected") == 0
        assert process.get("livez").is_success
        assert not process.get("readyz").is_success
        assert exchange_status(exchange)["clients"] == 0
        process.terminate()
        assert process.wait() == 0


def test_sources_that_share_a_topic_tell_in_places_of_their_own() -> None:
    def one(name: str) -> dict[str, Any]:
        return {"name": name, "venue": "binance", "symbols": [{"name": "BTCUSDT"}], "partitions": 2}

    document: dict[str, Any] = {"apiVersion": "k2.dev/v1alpha1", "kind": "K2Pipeline", "metadata": {"name": "x"}}
    pipeline = parse_pipeline(document | {"spec": {"ingestion": [one("a"), one("b"), one("c")]}})
    topic = "market.crypto.trades.binance"
    assert [symbols_place(pipeline, source) for source in pipeline.spec.ingestion] == [
        (topic, 0),
        (topic, 1),
        (topic, 0),
    ]


def test_the_rest_server_is_the_one_that_belongs_to_the_streams() -> None:
    source = IngestionSpec.model_validate({"name": "a", "venue": "binance", "symbols": [{"name": "BTCUSDT"}]})
    assert rest_server(IngestSettings(), source) == "https://api.binance.com"
    here = IngestSettings(ingest_url="ws://127.0.0.1:9443")
    assert rest_server(here, source) == "http://127.0.0.1:9443"
    assert rest_server(here.model_copy(update={"ingest_rest_url": "http://there"}), source) == "http://there"


def test_a_ca_that_cannot_be_read_is_one_line_and_exit_2(workspace: Workspace) -> None:
    gone = {"K2_INGEST_URL": "wss://127.0.0.1:9", "K2_INGEST_REST_URL": "https://127.0.0.1:9"}
    process = workspace.start(exchange_gone(gone), K2_INGEST_CA_FILE=str(workspace.folder / "none.pem"))
    assert process.wait() == 2
    [line] = process.lines
    assert "K2_INGEST_CA_FILE: found" in line["message"]
