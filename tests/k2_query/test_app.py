"""The routes of the API over real HTTP, with a real log and a real table, against sets of what went in."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from k2_cli.stack.kafka import LocalKafka
from k2_core.spec import parse_pipeline
from support.api import Api, commit, in_time, serve, wait_healthy
from support.query import BASE, World, event_time, ids, make_record, make_records
from support.waiting import wait_until

pytestmark = pytest.mark.kafka


def test_numbers_and_times_are_exact(world: World, api: Api) -> None:
    odd = [
        make_record("BTCUSDT", 1, BASE, price=Decimal("0.00000001"), quantity=Decimal("99999999999999999999.12345678")),
        make_record("BTCUSDT", 2, BASE, exchange_timestamp=None, sequence=None, side=None, vendor_data={'a"b': "ü"}),
    ]
    world.produce(odd)
    commit(world, api)
    world.produce([record | {"message_id": record["message_id"] + "x"} for record in odd])

    rows = api.get("/v1/trades", symbol="BTCUSDT")["data"]

    assert {row["message_id"] for row in rows} == {f"binance:spot:BTCUSDT:{name}" for name in ("1", "1x", "2", "2x")}
    for row in rows:
        record = odd[int(row["trade_id"]) - 1]
        for name in ("price", "quantity"):
            assert row[name] == f"{record[name]:f}"
        for name in ("exchange_timestamp", "receive_timestamp"):
            expected = record[name]
            assert row[name] == (expected and expected.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
        assert row["event_time"] == event_time(record).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        assert {name: row[name] for name in ("sequence", "side", "vendor_data")} == {
            name: record[name] for name in ("sequence", "side", "vendor_data")
        }


FILLED = make_records("BTCUSDT", 1, 200, BASE, 20_000) + make_records("ETHUSDT", 1, 200, BASE, 20_000)
"""400 trades of two symbols over 4 s."""


@pytest.fixture(scope="module")
def filled(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The service over FILLED, half of which is committed, in four commits and not in the order of time."""
    with contextlib.closing(
        World(kafka.bootstrap_servers, tmp_path_factory.mktemp("filled"), f"q{uuid.uuid4().hex[:12]}")
    ) as world:
        world.create_topic()
        for part in (2, 0, 1, 3):
            world.produce(FILLED[part * 50 : part * 50 + 50])
            world.commit()
        world.produce(FILLED[200:])
        with serve(world.settings, world.pipeline) as running:
            wait_healthy(running)
            yield running


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    ("start", "end"),
    [(None, None), (1.0, 2.5), (None, 0.5), (3.9, None), (1.0, 1.000001), (60.0, 90.0)],
    ids=["all", "middle", "begin", "end", "one", "none"],
)
def test_window_order_and_limit(filled: Api, symbol: str, order: str, start: float | None, end: float | None) -> None:
    low = BASE + timedelta(seconds=start or 0)
    high = BASE + timedelta(seconds=3600 if end is None else end)
    expected = ids([one for one in FILLED if low <= event_time(one) < high], symbol)
    bounds = {
        name: at.isoformat() for name, at, given in (("start", low, start), ("end", high, end)) if given is not None
    }
    if order == "desc":
        expected.reverse()
    for limit in (1, 7, 60, 10_000):
        assert filled.ids(symbol=symbol, order=order, limit=limit, **bounds) == expected[:limit]


def test_lake_and_tail_alone_are_the_two_halves(filled: Api) -> None:
    assert filled.ids(source="lake") == ids(FILLED)
    assert filled.ids(source="tail") == []
    assert filled.ids(source="tail", symbol="ETHUSDT") == ids(FILLED, "ETHUSDT")
    body = filled.get("/v1/trades", symbol="ETHUSDT", source="lake")
    assert body["data"] == []
    assert "no trades of ETHUSDT" in body["meta"]["warnings"][0]


def test_an_older_snapshot_is_read_alone(world: World, api: Api) -> None:
    world.produce(make_records("BTCUSDT", 1, 10, BASE))
    commit(world, api)
    older, between = world.head_id(), datetime.now(UTC)
    wait_until(lambda: datetime.now(UTC) > between + timedelta(milliseconds=5), "the next millisecond")
    world.produce(make_records("BTCUSDT", 11, 10, BASE + timedelta(seconds=1)))
    commit(world, api)

    assert len(api.ids(snapshot_id=older)) == 10
    assert len(api.ids(as_of=between.isoformat())) == 10
    assert len(api.ids(snapshot_id=world.head_id())) == 20
    assert api.get("/v1/trades", symbol="BTCUSDT", snapshot_id=older)["meta"]["snapshot_id"] == str(older)
    assert api.get("/v1/trades", 400, symbol="BTCUSDT", snapshot_id=1)["parameter"] == "snapshot_id"
    assert api.get("/v1/trades", 400, symbol="BTCUSDT", as_of="2001-01-01")["parameter"] == "as_of"


def test_recent_counts_from_now_and_begins_with_the_newest(world: World, api: Api) -> None:
    now = datetime.now(UTC)
    old = make_records("BTCUSDT", 1, 5, now - timedelta(minutes=20))
    late = make_records("BTCUSDT", 6, 5, now - timedelta(minutes=10))
    newest = make_records("BTCUSDT", 11, 5, now + timedelta(seconds=1))
    world.produce(old + late)
    commit(world, api)
    world.produce(newest)

    def recent(**parameters: Any) -> list[int]:
        body = api.get("/v1/trades/recent", symbol="BTCUSDT", **parameters)
        return [row["sequence"] for row in body["data"]]

    assert recent() == list(range(15, 5, -1))
    assert recent(window="30m", limit=12) == list(range(15, 3, -1))
    assert recent(window_minutes=30) == list(range(15, 0, -1))
    assert recent(window="30s") == list(range(15, 10, -1))


def test_symbols_come_from_table_and_log(world: World, api: Api) -> None:
    world.produce(make_records("BTCUSDT", 1, 10, BASE) + make_records("ETHUSDT", 1, 10, BASE))
    commit(world, api)
    for _ in range(2):  # the second time from what the first one kept
        world.produce(make_records("BNBUSDT", 1, 3, BASE) + make_records("BTCUSDT", 11, 1, BASE + timedelta(hours=1)))
        found = {row["symbol"]: row for row in api.get("/v1/symbols")["data"]}
        assert set(found) == {"BTCUSDT", "ETHUSDT", "BNBUSDT"}
        assert found["BTCUSDT"]["first_event_time"] == "2024-08-08T23:50:00.000000Z"
        assert found["BTCUSDT"]["last_event_time"] == "2024-08-09T00:50:00.000000Z"
        assert found["BTCUSDT"]["exchange"] == "binance"


def test_symbols_have_the_reference_data_of_the_pipeline(world: World) -> None:
    document = world.document()
    document["spec"]["ingestion"][0]["symbols"] = [
        {"name": "BTCUSDT", "tickSize": "0.01", "stepSize": "0.00001000"},
        {"name": "BNBUSDT", "tickSize": "0.5"},
        {"name": "XRPUSDT", "stepSize": "1"},
    ]
    world.create_topic()
    with serve(world.settings, parse_pipeline(document)) as api:
        wait_healthy(api)
        world.produce(make_records("BTCUSDT", 1, 3, BASE) + make_records("ETHUSDT", 1, 3, BASE))
        commit(world, api)
        world.produce(make_records("BTCUSDT", 4, 1, BASE) + make_records("BNBUSDT", 1, 3, BASE))
        found = {row["symbol"]: (row["tick_size"], row["step_size"]) for row in api.get("/v1/symbols")["data"]}
        assert found == {"BTCUSDT": ("0.01", "0.00001000"), "BNBUSDT": ("0.5", None), "ETHUSDT": (None, None)}


def test_summary_is_the_exact_ohlcv_of_each_day(world: World, api: Api) -> None:
    records = make_records("BTCUSDT", 1, 120, BASE, 10_000_000)
    world.produce(records[:80])
    commit(world, api)
    world.produce(records[70:])

    body = api.whole("/v1/summary/BTCUSDT")

    assert [row["day"] for row in body["data"]] == ["2024-08-08", "2024-08-09"]
    for row in body["data"]:
        day = [one for one in records if event_time(one).date().isoformat() == row["day"]]
        prices = [one["price"] for one in day]
        volume = sum(one["quantity"] for one in day)
        notional = sum(one["price"] * one["quantity"] for one in day)
        assert Decimal(row["open"]) == prices[0]
        assert Decimal(row["close"]) == prices[-1]
        assert Decimal(row["high"]) == max(prices)
        assert Decimal(row["low"]) == min(prices)
        assert Decimal(row["volume"]) == volume
        assert Decimal(row["notional"]) == notional
        assert Decimal(row["vwap"]) == (notional / volume).quantize(Decimal("1E-8"))
        assert row["trades"] == len(day)
    one_day = api.whole("/v1/summary/BTCUSDT", start="2024-08-09", end="2024-08-10")
    assert [row["day"] for row in one_day["data"]] == ["2024-08-09"]
    nothing = api.get("/v1/summary/ETHUSDT")
    assert nothing["data"] == []
    assert nothing["meta"]["warnings"]


def test_snapshots_and_tables_say_what_is_stored(world: World, api: Api) -> None:
    assert api.get("/v1/snapshots")["data"] == []
    assert api.get("/v1/tables")["data"] == []
    world.produce(make_records("BTCUSDT", 1, 10, BASE))
    commit(world, api)
    first = world.head_id()
    world.produce(make_records("BTCUSDT", 11, 5, BASE + timedelta(minutes=20)))
    commit(world, api)

    newest, oldest = api.get("/v1/snapshots")["data"]

    assert (newest["snapshot_id"], newest["parent_id"]) == (str(world.head_id()), str(first))
    assert (newest["rows_added"], newest["rows_total"], newest["operation"]) == (5, 15, "append")
    assert (oldest["parent_id"], oldest["rows_added"], oldest["batch_id"]) == (None, 10, "batch-10")
    assert datetime.fromisoformat(newest["committed_at"]) > datetime.fromisoformat(oldest["committed_at"])
    assert len(api.get("/v1/snapshots", limit=1)["data"]) == 1
    [table] = api.get("/v1/tables")["data"]
    assert (table["table"], table["rows"], table["files"], table["partitions"]) == ("trades", 15, 2, 2)
    assert table["bytes"] > 1000
    assert table["snapshots"] == 2


@pytest.mark.parametrize(
    ("path", "parameter", "expected"),
    [
        ("/v1/trades", "symbol", "found nothing"),
        ("/v1/trades?symbol=btcusdt", "symbol", "found 'btcusdt', expected"),
        ("/v1/trades?symbol=BTCUSDT&limit=0", "limit", "found '0', expected greater than or equal to 1"),
        ("/v1/trades?symbol=BTCUSDT&limit=10001", "limit", "less than or equal to 10000"),
        ("/v1/trades?symbol=BTCUSDT&limit=ten", "limit", "found 'ten'"),
        ("/v1/trades?symbol=BTCUSDT&start=yesterday", "start", "ISO 8601"),
        ("/v1/trades?symbol=BTCUSDT&start=0001-01-01T00:00:00%2B14:00", "start", "ISO 8601"),
        ("/v1/trades?symbol=BTCUSDT&end=2999-01-01", "end", "1970 to 2199"),
        ("/v1/trades?symbol=BTCUSDT&start=2024-08-09&end=2024-08-08", "start", "before end"),
        ("/v1/trades?symbol=BTCUSDT&start=2024-08-08&end=2024-08-08", "start", "before end"),
        ("/v1/trades?symbol=BTCUSDT&order=up", "order", "'asc' or 'desc'"),
        ("/v1/trades?symbol=BTCUSDT&source=moon", "source", "'hybrid', 'lake' or 'tail'"),
        ("/v1/trades?symbol=BTCUSDT&source=tail&snapshot_id=1", "source", "expected 'lake'"),
        ("/v1/trades?symbol=BTCUSDT&as_of=2024-08-08&snapshot_id=1", "as_of", "one of them"),
        ("/v1/trades?symbol=BTCUSDT&snapshot_id=-1", "snapshot_id", "greater than or equal to 0"),
        ("/v1/trades?symbol=BTCUSDT&symbol=ETHUSDT", "symbol", "twice"),
        ("/v1/trades?symbol=BTCUSDT&colour=red", "colour", "unknown parameter"),
        ("/v1/trades?symbol=%00", "symbol", "expected"),
        ("/v1/trades/recent?symbol=BTCUSDT&window=forever", "window", "such as 90s, 15m or 2h"),
        ("/v1/trades/recent?symbol=BTCUSDT&window=25h", "window", "up to 24h"),
        ("/v1/trades/recent?symbol=BTCUSDT&window=1m&window_minutes=1", "window_minutes", "one of them"),
        ("/v1/summary/btc", "symbol", "expected"),
        ("/v1/summary/BTCUSDT?start=2024-08-08T10:00", "start", "expected a day"),
        ("/v1/summary/BTCUSDT?start=2024-08-08&end=2024-08-08", "start", "exclusive"),
        ("/v1/symbols?limit=1", "limit", "expected none"),
        ("/v1/tables?x=1", "x", "expected none"),
        ("/v1/snapshots?limit=9999", "limit", "less than or equal to 1000"),
    ],
)
def test_bad_input_is_a_problem_that_names_the_parameter(
    shared_api: Api, path: str, parameter: str, expected: str
) -> None:
    answer = shared_api.client.get(path)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["parameter"] == parameter
    assert expected in body["detail"]
    assert body["status"] == 400
    assert body["type"] == "urn:k2:problem:invalid-parameter"
    assert body["correlation_id"] == answer.headers["x-correlation-id"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v2", 404), ("POST", "/v1/trades", 405)])
def test_other_routes_are_problems_too(shared_api: Api, method: str, path: str, status: int) -> None:
    answer = shared_api.client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert path in answer.json()["detail"]


@pytest.mark.parametrize("key", [None, "", "k2-dev-api-key-2025", "k2-dev-api-key-2026.x"], ids=repr)
def test_without_a_valid_key_there_is_nothing(shared_api: Api, key: str | None) -> None:
    headers = {} if key is None else {"X-API-Key": key}
    for path in ("/v1/trades?symbol=BTCUSDT", "/v1/nothing"):
        request = shared_api.client.build_request("GET", path)
        request.headers.pop("X-API-Key")
        request.headers.update(headers)
        answer = shared_api.client.send(request)
        assert answer.status_code == 401
        assert answer.json()["type"] == "urn:k2:problem:unauthorised"
        assert "WWW-Authenticate" in answer.headers


@pytest.mark.parametrize("path", ["/health", "/metrics", "/docs", "/openapi.json"])
def test_operations_need_no_key(shared_api: Api, path: str) -> None:
    request = shared_api.client.build_request("GET", path)
    request.headers.pop("X-API-Key")
    wait_until(lambda: shared_api.client.send(request).status_code == 200, "an answer")  # `/health` has bad moments


def test_a_correlation_id_is_taken_or_made(shared_api: Api) -> None:
    given = shared_api.client.get("/v1/tables", headers={"X-Correlation-ID": "order-77.a_b"})
    assert given.headers["x-correlation-id"] == "order-77.a_b"
    assert given.json()["meta"]["correlation_id"] == "order-77.a_b"
    made = shared_api.client.get("/v1/tables", headers={"X-Correlation-ID": 'a"b {x}'})
    assert len(made.headers["x-correlation-id"]) == 32


def test_the_documentation_lists_every_parameter(shared_api: Api) -> None:
    paths = shared_api.get("/openapi.json")["paths"]
    names = {one["name"] for one in paths["/v1/trades"]["get"]["parameters"]}
    assert names >= {"symbol", "start", "end", "limit", "order", "source", "snapshot_id", "as_of"}
    assert set(paths) >= {"/v1/trades/recent", "/v1/symbols", "/v1/summary/{symbol}", "/v1/snapshots", "/v1/tables"}


def test_metrics_tell_of_requests_positions_and_freshness(world: World, api: Api) -> None:
    began = datetime.now(UTC)
    world.produce([make_record("BTCUSDT", 1, began, receive_timestamp=began)])
    commit(world, api)
    asked = 0

    def ask() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return api.once("/v1/trades", symbol="BTCUSDT")

    assert len(in_time(ask)["data"]) == 1
    api.client.get("/v1/summary/../../etc/passwd")
    text = api.client.get("/metrics").text
    for line in (
        f'k2_query_requests_total{{route="/v1/trades",status="200"}} {asked}.0',
        'k2_query_requests_total{route="unmatched",status="404"} 1.0',
        'k2_query_freshness_seconds_bucket{le="+Inf"} 1.0',
        'k2_query_exchange_freshness_seconds_bucket{le="+Inf"} 1.0',
        'k2_build_info{service="k2-query"',
    ):
        assert line in text, line
    age = re.search(r"^k2_query_committed_age_seconds (\S+)$", text, re.MULTILINE)
    assert age is not None
    assert 0 < float(age[1]) < (datetime.now(UTC) - began).total_seconds()
    assert f'k2_query_end_offset{{partition="2",topic="{world.topic}"}} 1.0' in text
    assert f'k2_query_committed_offset{{partition="2",topic="{world.topic}"}} 1.0' in text
