"""What the contract (test_engine_contract.py) does not say of Trino's engine: what it asks, and what it never asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from k2_core.errors import CatalogUnavailableError, EngineError, EngineUnavailableError
from k2_query import trino_engine as module
from k2_query.budget import Budget
from k2_query.file_index import FileIndex
from k2_query.lake import LakeSnapshot
from k2_query.ordering import Order
from k2_query.segments import Window
from k2_query.trino_client import TrinoClient, TrinoServer
from k2_query.trino_engine import TrinoEngine
from support.engines import FOREVER, NAMESPACE, Contract, commits, first_ids, followed, logged, trino_engine, within
from support.postgres import LocalPostgres
from support.query import BASE, World, make_records
from support.s3 import LocalS3
from support.trino import LocalTrino

ALL = Window("BTCUSDT", 0, FOREVER)


def budget() -> Budget:
    return Budget(120)


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contract]:
    """A lake in a folder, which is enough where Trino is asked nothing."""
    folder = tmp_path_factory.mktemp("lake")
    with closing(World("127.0.0.1:1", folder, NAMESPACE)) as world:
        _ = world.catalog
        with followed(world, commits()) as made:
            yield made


@pytest.fixture
def nowhere() -> Iterator[TrinoEngine]:
    """An engine that fails as soon as it asks anything."""
    client = TrinoClient(TrinoServer("http://127.0.0.1:1", "k2", "lake"), connections=1)
    with closing(TrinoEngine(client, "lake", NAMESPACE)) as made:
        yield made


class TestWhatTheIndexRulesOut:
    def test_it_is_not_asked_for(self, nowhere: TrinoEngine, contract: Contract) -> None:
        before = Window("BTCUSDT", 0, 1)
        newer = logged(make_records("BTCUSDT", 70_000, 3, BASE))
        lake = contract.newest
        assert nowhere.rows(lake, before, Order.ASC, 5, budget()).num_rows == 0
        assert nowhere.known_ids(lake, ALL, newer, budget()).to_pylist() == []
        assert nowhere.known_ids(lake, before, logged(contract.everything), budget()).to_pylist() == []
        assert [day.trades for day in nowhere.daily(lake, before, newer, budget())] == [3]

    def test_anything_else_is(self, nowhere: TrinoEngine, contract: Contract) -> None:
        lake, log = contract.newest, logged(contract.everything[:1])
        with pytest.raises(EngineUnavailableError):
            nowhere.rows(lake, ALL, Order.ASC, 5, budget())
        with pytest.raises(EngineUnavailableError):
            nowhere.known_ids(lake, ALL, log, budget())
        with pytest.raises(EngineUnavailableError):
            nowhere.daily(lake, ALL, log, budget())
        with pytest.raises(EngineUnavailableError):
            nowhere.symbols(lake, budget())


def test_files_without_a_snapshot_are_a_mistake(nowhere: TrinoEngine, contract: Contract) -> None:
    lake = LakeSnapshot(None, None, None, None, FileIndex(contract.newest.index.files))
    with pytest.raises(ValueError, match="found files of no snapshot"):
        nowhere.rows(lake, ALL, Order.ASC, 5, budget())


def test_ids_go_in_portions_by_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PORTION_BYTES", 300)
    records = make_records("BTCUSDT", 100, 40, BASE)
    without = [record | {"sequence": None, "message_id": f"x{at}"} for at, record in enumerate(records[:5])]
    portions = list(module._portions(logged([*reversed(records), *without])))
    assert len(portions) > 3
    ids = [portion.column("message_id").to_pylist() for portion in portions]
    assert [one for portion in ids for one in portion][:40] == [record["message_id"] for record in records]
    assert sorted(one for portion in ids for one in portion) == sorted(one["message_id"] for one in records + without)
    assert all(sum(len(one) + 3 for one in portion) <= 330 for portion in ids)
    assert list(module._portions(logged([]))) == []


@pytest.fixture(scope="module")
def on_s3(postgres: LocalPostgres, s3: LocalS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contract]:
    """A lake that Trino can read."""
    folder: Path = tmp_path_factory.mktemp("lake-on-s3")
    lake = {"K2_CATALOG_URI": postgres.database(), **s3.environment(s3.bucket())}
    with closing(World("127.0.0.1:1", folder, NAMESPACE, lake=lake)) as world, followed(world, commits()) as made:
        yield made


@pytest.mark.trino
class TestOnTrino:
    @pytest.fixture
    def engine(self, on_s3: Contract, trino: LocalTrino) -> Iterator[TrinoEngine]:
        with closing(trino_engine(on_s3.world, trino)) as made:
            yield made

    def test_ids_in_many_portions_are_all_found(
        self, engine: TrinoEngine, on_s3: Contract, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "PORTION_BYTES", 600)
        own = within(on_s3.everything, ALL)
        found = engine.known_ids(on_s3.newest, ALL, logged(own), budget())
        assert sorted(found.to_pylist()) == sorted(record["message_id"] for record in own)

    def test_rows_in_many_batches_are_all_there(
        self, engine: TrinoEngine, on_s3: Contract, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("k2_query.trino_client.BATCH_ROWS", 7)
        rows = engine.rows(on_s3.newest, ALL, Order.ASC, 1000, budget())
        assert rows.column("message_id").to_pylist() == first_ids(on_s3.everything, ALL, Order.ASC, 1000)
        assert rows.column("event_time").num_chunks > 5

    @pytest.mark.parametrize("order", list(Order))
    @pytest.mark.parametrize(("limit", "questions"), [(5, 1), (45, 2)], ids=["of-one-file", "of-several"])
    def test_first_rows_are_asked_of_the_first_files_and_of_all_if_they_are_too_few(
        self,
        engine: TrinoEngine,
        on_s3: Contract,
        trino: LocalTrino,
        monkeypatch: pytest.MonkeyPatch,
        order: Order,
        limit: int,
        questions: int,
    ) -> None:
        monkeypatch.setattr("k2_query.narrowing.LEAST_ROWS", 1)
        monkeypatch.setattr("k2_query.narrowing.ROWS_FOR_ONE", 0)
        rows = engine.rows(on_s3.newest, ALL, order, limit, budget())
        assert rows.column("message_id").to_pylist() == first_ids(on_s3.everything, ALL, order, limit)
        assert sum("ORDER BY event_time" in query["query"] for query in trino.queries(engine._catalog)) == questions

    def test_a_file_is_asked_for_its_symbols_once(
        self, engine: TrinoEngine, on_s3: Contract, trino: LocalTrino
    ) -> None:
        first = engine.symbols(on_s3.snapshots[1], budget())
        asked = len(self.asked(trino, engine))
        assert engine.symbols(on_s3.snapshots[1], budget()) == first
        assert len(self.asked(trino, engine)) == asked
        everything = engine.symbols(on_s3.newest, budget())
        assert len(self.asked(trino, engine)) == asked + 1
        assert everything[: len(first)] != []
        assert engine.symbols(on_s3.snapshots[1], budget()) == first

    def test_of_many_new_files_none_is_named(
        self, engine: TrinoEngine, on_s3: Contract, trino: LocalTrino, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        named = engine.symbols(on_s3.newest, budget())
        assert "IN (?" in self.asked(trino, engine)[-1]
        monkeypatch.setattr(module, "PATHS_AT_ONCE", 1)
        with closing(trino_engine(on_s3.world, trino, engine._catalog)) as other:
            assert sorted(map(repr, other.symbols(on_s3.newest, budget()))) == sorted(map(repr, named))
        assert "WHERE true" in self.asked(trino, engine)[-1]

    def test_a_snapshot_that_is_gone_can_be_asked_for_again(self, engine: TrinoEngine, on_s3: Contract) -> None:
        gone = replace(on_s3.newest, id=5)  # type: ignore[arg-type]
        with pytest.raises(EngineUnavailableError, match=r"snapshot ID does not exist.*ask again"):
            engine.rows(gone, ALL, Order.ASC, 5, budget())

    def test_a_catalog_over_another_lake_sees_no_table(
        self, on_s3: Contract, trino: LocalTrino, postgres: LocalPostgres, s3: LocalS3, tmp_path: Path
    ) -> None:
        lake = {"K2_CATALOG_URI": postgres.database(), **s3.environment(s3.bucket())}
        with closing(World("127.0.0.1:1", tmp_path, NAMESPACE, lake=lake)) as empty:
            _ = empty.catalog  # makes the catalog's own tables
            name = trino.catalog(empty.settings)
        with closing(trino_engine(on_s3.world, trino, name)) as engine, pytest.raises(EngineError) as told:
            engine.rows(on_s3.newest, ALL, Order.ASC, 5, budget())
        assert f"Table '{name}.{NAMESPACE}.trades' does not exist" in str(told.value) or "Schema" in str(told.value)
        assert "compare its Iceberg catalog with the pipeline's" in str(told.value)

    def test_a_catalog_that_does_not_answer_is_said(
        self, on_s3: Contract, trino: LocalTrino, postgres: LocalPostgres
    ) -> None:
        away = postgres.database().partition("@")[2] + "_that_is_not_there"
        name = trino.catalog(on_s3.world.settings, iceberg_jdbc_catalog_connection_url=f"jdbc:postgresql://{away}")
        with closing(trino_engine(on_s3.world, trino, name)) as engine, pytest.raises(CatalogUnavailableError) as told:
            engine.rows(on_s3.newest, ALL, Order.ASC, 5, budget())
        assert "found Failed to connect: jdbc:..., expected it to reach the pipeline's catalog" in str(told.value)

    @staticmethod
    def asked(trino: LocalTrino, engine: TrinoEngine) -> list[str]:
        return [query["query"] for query in trino.queries(engine._catalog) if "$path" in query["query"]]
