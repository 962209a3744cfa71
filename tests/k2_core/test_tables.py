"""The Iceberg tables in a real catalog: made once, as designed, whoever comes first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, DayTransform, IdentityTransform
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.schema import CreateTable

from k2_core import tables
from k2_core.config import ServiceSettings
from k2_core.errors import CatalogUnavailableError, SpecError
from k2_core.quality import QUALITY
from k2_core.records import QUOTES, RECORD_TYPES, TRADES, RecordType
from k2_core.tables import TABLE_PROPERTIES, ensure_table, load_table, open_catalog, sort_columns, sql_uri, table_name
from support.lake import environment_settings
from support.postgres import LocalPostgres
from support.rest_catalog import LocalRestCatalog
from support.s3 import LocalS3
from support.waiting import wait_until

READER = "reader"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
EACH_TYPE = pytest.mark.parametrize("record_type", RECORD_TYPES.values(), ids=lambda kind: kind.name)


def settings_of(folder: Path) -> ServiceSettings:
    return ServiceSettings(
        catalog_uri=SecretStr(f"sqlite:///{folder}/catalog.db"), warehouse=f"file://{folder}/warehouse"
    )


@contextmanager
def before_making(table: str, then: Callable[[], object]) -> Iterator[None]:
    """Call `then` before this process makes a table in which a SQL catalog keeps its entries, but not within `then`."""
    within = False

    def overtake(*call: Any) -> None:
        nonlocal within
        if call[2].split()[:3] == ["CREATE", "TABLE", table] and not within:
            within = True
            then()
            within = False

    event.listen(Engine, "before_cursor_execute", overtake)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", overtake)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = open_catalog(settings_of(tmp_path))
    yield opened
    opened.close()


class TestCatalog:
    def test_the_embedded_one(self, catalog: Catalog) -> None:
        assert isinstance(catalog, SqlCatalog)
        assert catalog.name == "k2"

    @pytest.mark.parametrize(
        "settings",
        [
            pytest.param(ServiceSettings(), id="nothing"),
            pytest.param(ServiceSettings(catalog_uri=SecretStr("sqlite://")), id="no-warehouse"),
            pytest.param(ServiceSettings(warehouse="file:///w"), id="no-catalog"),
        ],
    )
    def test_missing_settings_are_named(self, settings: ServiceSettings) -> None:
        with pytest.raises(SpecError, match="K2_CATALOG_URI and K2_WAREHOUSE: found none, expected"):
            open_catalog(settings)

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(
            CatalogUnavailableError,
            match=r"Error \(unable to open database file\), expected",
        ):
            open_catalog(settings_of(tmp_path / "missing"))

    def test_nobody_at_a_rest_catalog(self) -> None:
        away = ServiceSettings(catalog_type="rest", catalog_uri=SecretStr("http://127.0.0.1:1"), warehouse="s3://w")
        with pytest.raises(CatalogUnavailableError, match=r"found ConnectionError \(.*\), expected an answer"):
            open_catalog(away)

    def test_object_storage_gets_its_keys_and_a_short_patience(self, tmp_path: Path) -> None:
        s3 = {"s3_endpoint": "http://s3:9000", "s3_region": "eu-central-1"}
        opened = open_catalog(
            ServiceSettings(
                catalog_uri=SecretStr(f"sqlite:///{tmp_path}/catalog.db"),
                warehouse="s3://lake/warehouse",
                s3_access_key=SecretStr("key"),
                s3_secret_key=SecretStr("secret"),
                s3_endpoint=s3["s3_endpoint"],
                s3_region=s3["s3_region"],
            )
        )
        found = {name: value for name, value in opened.properties.items() if name.startswith("s3.")}
        opened.close()
        assert found == {
            "s3.endpoint": "http://s3:9000",
            "s3.region": "eu-central-1",
            "s3.access-key-id": "key",
            "s3.secret-access-key": "secret",
            "s3.connect-timeout": "5",
            "s3.request-timeout": "10",
            "s3.force-virtual-addressing": "false",
        }

    @pytest.mark.parametrize(
        ("uri", "found"),
        [
            ("hunter2", "no database URL"),
            ("mysql://u:hunter2@h/d", "a URL of mysql"),
            ("postgresql+asyncpg://u:hunter2@h/d", r"a URL of postgresql\+asyncpg"),
            ("postgresql://u:hunter2@h:port/d", "no database URL"),
        ],
        ids=["no-url", "other-database", "other-driver", "wrong-port"],
    )
    def test_a_uri_that_cannot_be_one_is_refused_and_not_shown(self, uri: str, found: str) -> None:
        with pytest.raises(SpecError, match=f"K2_CATALOG_URI: found {found}, expected sqlite:///FILE or") as caught:
            open_catalog(ServiceSettings(catalog_uri=SecretStr(uri), warehouse="file:///w"))
        assert "hunter2" not in str(caught.value)

    def test_postgresql_gets_the_driver_and_time_limits_but_keeps_its_own(self) -> None:
        found = make_url(sql_uri("postgresql://u:p%40ss@h:5433/d?connect_timeout=9&sslmode=verify-full"))
        assert (found.drivername, found.password, found.port) == ("postgresql+psycopg", "p@ss", 5433)
        assert found.query["connect_timeout"] == "9"
        assert found.query["sslmode"] == "verify-full"
        assert "statement_timeout" in found.query["options"]


class TestNewCatalog:
    """Several processes open a SQL catalog that is still empty: each looks first, and makes what it did not find."""

    @pytest.mark.parametrize(
        ("database", "table"),
        [
            ("sqlite", "iceberg_tables"),
            ("sqlite", "iceberg_namespace_properties"),  # PostgreSQL makes both in one transaction
            ("postgresql", "iceberg_tables"),
        ],
    )
    def test_another_is_faster(self, request: pytest.FixtureRequest, tmp_path: Path, database: str, table: str) -> None:
        settings = settings_of(tmp_path)
        if database == "postgresql":
            postgres: LocalPostgres = request.getfixturevalue("postgres")
            settings = settings.model_copy(update={"catalog_uri": SecretStr(postgres.database())})
        faster: list[Catalog] = []
        with (
            before_making(table, lambda: faster.append(open_catalog(settings))),
            closing(open_catalog(settings)) as own,
        ):
            (other,) = faster
            with closing(other):
                ensure_table(other, "market", TRADES, "uid")
            assert own.list_tables("market") == [("market", "trades")]

    def test_another_is_at_it(self, postgres: LocalPostgres) -> None:
        uri = postgres.database()
        settings = ServiceSettings(catalog_uri=SecretStr(uri), warehouse="file:///w")
        dialect = create_engine("postgresql+psycopg://").dialect
        with psycopg.connect(uri) as other, psycopg.connect(uri, autocommit=True) as watch:

            def finish() -> None:
                wait_until(lambda: watch.execute(WAITING).fetchall() == [(1,)], "one to wait for the other")
                other.commit()

            finishing = threading.Thread(target=finish)

            def begin() -> None:
                for made in IcebergTables.metadata.sorted_tables:
                    other.execute(str(CreateTable(made).compile(dialect=dialect)))
                finishing.start()

            with before_making("iceberg_tables", begin), closing(open_catalog(settings)) as own:
                finishing.join()
                ensure_table(own, "market", TRADES, "uid")
                assert own.list_tables("market") == [("market", "trades")]

    def test_what_else_is_wrong_is_said_at_once(self, postgres: LocalPostgres) -> None:
        uri, looks = postgres.database(), []
        with psycopg.connect(uri) as admin:
            admin.execute(f"CREATE ROLE {READER} LOGIN PASSWORD '{READER}'")
        other = make_url(uri).set(username=READER, password=READER).render_as_string(hide_password=False)
        settings = ServiceSettings(catalog_uri=SecretStr(other), warehouse="file:///w")
        with (
            before_making("iceberg_tables", lambda: looks.append(1)),
            pytest.raises(CatalogUnavailableError, match="permission denied for schema public"),
        ):
            open_catalog(settings)
        assert looks == [1]


class TestPostgreSQL:
    def test_a_table_as_designed(self, postgres: LocalPostgres, tmp_path: Path) -> None:
        settings = ServiceSettings(catalog_uri=SecretStr(postgres.database()), warehouse=f"file://{tmp_path}/w")
        catalog = open_catalog(settings)
        made = ensure_table(catalog, "market", TRADES, "uid")
        catalog.close()
        again = open_catalog(settings)
        found = load_table(again, "market", TRADES)
        again.close()
        assert found is not None
        assert found.metadata == made.metadata

    def test_a_wrong_password_is_one_line_without_it(self, postgres: LocalPostgres) -> None:
        uri = postgres.uri("postgres", "hunter2")
        with pytest.raises(CatalogUnavailableError, match="password authentication failed") as caught:
            open_catalog(ServiceSettings(catalog_uri=SecretStr(uri), warehouse="file:///w"))
        assert "\n" not in str(caught.value)
        assert "hunter2" not in str(caught.value)

    def test_a_missing_database_is_named(self, postgres: LocalPostgres) -> None:
        with pytest.raises(CatalogUnavailableError, match='database "nowhere" does not exist'):
            open_catalog(ServiceSettings(catalog_uri=SecretStr(postgres.uri("nowhere")), warehouse="file:///w"))

    def test_nobody_there(self) -> None:
        with pytest.raises(CatalogUnavailableError, match="Connection refused"):
            open_catalog(
                ServiceSettings(catalog_uri=SecretStr("postgresql://u:p@127.0.0.1:1/d"), warehouse="file:///w")
            )


class TestTable:
    def test_names(self) -> None:
        assert table_name("market", TRADES) == ("market", "trades")
        assert table_name("test", QUOTES) == ("test", "quotes")

    def test_none_before_it_is_made(self, catalog: Catalog) -> None:
        assert load_table(catalog, "market", TRADES) is None

    @EACH_TYPE
    def test_made_as_designed(self, catalog: Catalog, record_type: RecordType) -> None:
        table = ensure_table(catalog, "market", record_type, "local/default/test")
        schema = table.schema()
        assert schema.as_struct() == record_type.iceberg_schema.as_struct()
        names = {field.field_id: field.name for field in schema.fields}
        partitions = [(names[field.source_id], field.transform, field.name) for field in table.spec().fields]
        assert partitions == [
            ("event_time", DayTransform(), "event_day"),
            ("symbol", BucketTransform(16), "symbol_bucket"),
        ]
        assert {field.transform for field in table.sort_order().fields} == {IdentityTransform()}
        order = [names[field.source_id] for field in table.sort_order().fields]
        assert order == sort_columns(list(names.values()))

    def test_a_table_of_few_rows_is_in_one_part(self, catalog: Catalog) -> None:
        table = ensure_table(catalog, "market", QUALITY, "uid")
        assert (table.name(), table.spec().fields) == (("market", "quality"), ())
        assert table.schema().as_struct() == QUALITY.iceberg_schema.as_struct()

    def test_trades_are_sorted_by_symbol_time_and_id(self) -> None:
        assert sort_columns(TRADES.table_schema.names) == ["symbol", "event_time", "trade_id"]
        assert sort_columns(QUOTES.table_schema.names) == ["symbol", "event_time"]

    def test_properties(self, catalog: Catalog) -> None:
        properties = ensure_table(catalog, "market", TRADES, "uid-7").properties
        assert properties.items() >= TABLE_PROPERTIES.items()
        assert properties["k2.pipeline"] == "uid-7"
        assert properties["commit.retry.num-retries"] == "0"

    def test_a_second_time_it_is_the_same(self, catalog: Catalog) -> None:
        first = ensure_table(catalog, "market", TRADES, "one")
        second = ensure_table(catalog, "market", TRADES, "two")
        assert first.metadata.table_uuid == second.metadata.table_uuid
        assert second.properties["k2.pipeline"] == "one"

    @pytest.mark.rest
    def test_a_server_that_cannot_make_it_is_said(self, rest_catalog: LocalRestCatalog, s3: LocalS3) -> None:
        with closing(open_catalog(environment_settings(rest_catalog.environment))) as opened:
            s3.stop()
            try:
                with pytest.raises(CatalogUnavailableError, match="catalog: found ServerError"):
                    ensure_table(opened, "market", TRADES, "x")
            finally:
                s3.start()
            assert ensure_table(opened, "market", TRADES, "x").properties["k2.pipeline"] == "x"

    def test_namespaces_are_apart(self, catalog: Catalog) -> None:
        one = ensure_table(catalog, "market", TRADES, "x")
        two = ensure_table(catalog, "test", TRADES, "x")
        assert one.metadata.table_uuid != two.metadata.table_uuid

    def test_found_by_another_process(self, catalog: Catalog, tmp_path: Path) -> None:
        made = ensure_table(catalog, "market", TRADES, "x")
        other = open_catalog(settings_of(tmp_path))
        found = load_table(other, "market", TRADES)
        other.close()
        assert found is not None
        assert found.metadata.table_uuid == made.metadata.table_uuid


class TestSeveralCreators:
    def test_all_get_the_one_table(self, lake: ServiceSettings) -> None:
        open_catalog(lake).close()  # its own tables are made by one
        gate = threading.Barrier(4)
        made: list[Table] = []
        failed: list[Exception] = []

        def create() -> None:
            own = open_catalog(lake)
            gate.wait()
            try:
                made.append(ensure_table(own, "market", TRADES, "x"))
            except CatalogUnavailableError as error:
                failed.append(error)
            finally:
                own.close()

        threads = [threading.Thread(target=create) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert len({table.metadata.table_uuid for table in made}) == 1
        assert len(made) == 4

    def test_the_namespace_appears_between_looking_and_making(
        self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        catalog.create_namespace("market")
        stale = [False]  # the first look's answer; later ones are of the moment
        exists = catalog.namespace_exists
        monkeypatch.setattr(catalog, "namespace_exists", lambda name: stale.pop() if stale else exists(name))
        assert ensure_table(catalog, "market", TRADES, "x") is not None

    def test_the_one_that_is_late_takes_the_others(self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
        """The other sink's table appears between looking and creating."""
        first = ensure_table(catalog, "market", TRADES, "early")
        stale: list[Table | None] = [None]  # as in the test before
        monkeypatch.setattr(tables, "load_table", lambda *at: stale.pop() if stale else load_table(*at))
        assert ensure_table(catalog, "market", TRADES, "late").metadata.table_uuid == first.metadata.table_uuid


@pytest.mark.usefixtures("catalog")
class TestAway:
    def test_a_locked_catalog_is_retryable(self, tmp_path: Path) -> None:
        """SQLite under another's write transaction; a short busy timeout so that the test is short."""
        impatient = open_catalog(
            ServiceSettings(
                catalog_uri=SecretStr(f"sqlite:///{tmp_path}/catalog.db?timeout=0.1"), warehouse=f"file://{tmp_path}/w"
            )
        )
        engine = create_engine(f"sqlite:///{tmp_path}/catalog.db")
        with engine.connect() as connection:
            connection.execute(text("BEGIN EXCLUSIVE"))
            with pytest.raises(CatalogUnavailableError, match=r"OperationalError \(database is locked\)"):
                ensure_table(impatient, "market", TRADES, "x")
            connection.execute(text("ROLLBACK"))
        assert ensure_table(impatient, "market", TRADES, "x") is not None
        engine.dispose()
        impatient.close()

    def test_locked_after_it_was_looked_up(self, tmp_path: Path) -> None:
        impatient = open_catalog(
            ServiceSettings(
                catalog_uri=SecretStr(f"sqlite:///{tmp_path}/catalog.db?timeout=0.1"), warehouse=f"file://{tmp_path}/w"
            )
        )
        engine = create_engine(f"sqlite:///{tmp_path}/catalog.db")
        with engine.connect() as connection:
            connection.execute(text("BEGIN IMMEDIATE"))  # others may read, and not write
            with pytest.raises(CatalogUnavailableError, match=r"OperationalError \(database is locked\)"):
                ensure_table(impatient, "market", TRADES, "x")
            connection.execute(text("ROLLBACK"))
        engine.dispose()
        impatient.close()
