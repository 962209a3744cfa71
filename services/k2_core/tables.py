"""The Iceberg tables: catalog, names, partitioning, sort order and properties.

Called by the sink (which creates and writes), the query service and the command line (which read). Only the sink's
`commit` module changes a table after it was created.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Final

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import NoSuchTableError, RESTError, ServerError, TableAlreadyExistsError
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, SortField, SortOrder
from pyiceberg.transforms import BucketTransform, DayTransform, IdentityTransform
from requests import RequestException
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError

from k2_core.config import ServiceSettings
from k2_core.errors import CatalogUnavailableError, SpecError
from k2_core.records import TableForm
from k2_core.state import PIPELINE_KEY
from k2_core.storage import file_properties, storage_fault

CATALOG_NAME: Final = "k2"
SYMBOL_BUCKETS: Final = 16
SORT_COLUMNS: Final = ("symbol", "event_time", "trade_id")
"""Of trades; other tables sort by those of these columns that they have."""

_FIRST_PARTITION_FIELD_ID: Final = 1000
"""Iceberg reserves ids from 1000 for partition fields (https://iceberg.apache.org/spec/#partition-evolution)."""
_POSTGRESQL_TIMEOUTS: Final = {
    "connect_timeout": "5",  # seconds; the library waits for ever
    "tcp_user_timeout": "15000",  # milliseconds until a peer that acknowledges nothing is given up
    "options": "-c statement_timeout=30s -c lock_timeout=10s",  # no statement of a catalog takes long
}
_DRIVER: Final = "postgresql+psycopg"
_URI_FORMS: Final = "sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
_LONGEST_FAULT: Final = 300

TABLE_PROPERTIES: Final[dict[str, str]] = {
    "commit.retry.num-retries": "0",  # the library's retry would rebase a stale writer: the protocol decides instead
    "write.parquet.compression-codec": "zstd",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "write.metadata.metrics.default": "truncate(16)",
}
MERGING: Final[dict[str, str]] = {"commit.manifest-merge.enabled": "true"}
"""Of tables whose commits bring a handful of rows: a hundred manifests become one, so that a scan stays short."""


def open_catalog(settings: ServiceSettings) -> Catalog:
    """Return the catalog of the settings.

    Raises:
        SpecError: No catalog or warehouse is configured, or the URI cannot be one.
        CatalogUnavailableError: It does not answer.
    """
    if settings.catalog_uri is None or settings.warehouse is None:
        raise SpecError("K2_CATALOG_URI and K2_WAREHOUSE", "none", "the catalog's URI and the warehouse's URL")
    uri = settings.catalog_uri.get_secret_value()
    properties = {
        "type": settings.catalog_type,
        "uri": sql_uri(uri) if settings.catalog_type == "sql" else uri,
        "warehouse": settings.warehouse,
        "init_catalog_tables": "false",  # see `_make_own_tables`
        "pool_pre_ping": "true",  # a server that was restarted costs a question, not a failed commit
        **file_properties(settings),
    }
    with answering(settings.warehouse, properties):
        catalog = load_catalog(CATALOG_NAME, **properties)
        if isinstance(catalog, SqlCatalog):
            _make_own_tables(catalog)
        return catalog


def _make_own_tables(catalog: SqlCatalog) -> None:
    """Make the tables in which a SQL catalog keeps its entries, though others may be at it.

    Each looks first, and makes what it did not find.
    """
    most = len(IcebergTables.metadata.tables)  # so often another may be faster
    for attempt in itertools.count():
        try:
            catalog.create_tables()
        except DBAPIError as error:
            # SQLite and PostgreSQL say so of the table, PostgreSQL at times of its name in a table of its own.
            overtaken = "already exists" in str(error.orig)
            if not overtaken or attempt >= most:
                catalog.close()
                raise
        else:
            return


def sql_uri(uri: str) -> str:
    """Return a SQLAlchemy URI with the driver that K2 has and with time limits.

    Raises:
        SpecError: It is no URI, or of a database that K2 has no driver for; never shows it, as it may hold a password.
    """
    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):
        raise SpecError("K2_CATALOG_URI", "no database URL", _URI_FORMS) from None
    backend = url.get_backend_name()
    if backend == "sqlite":
        return uri
    if backend != "postgresql" or url.drivername not in {"postgresql", _DRIVER}:
        raise SpecError("K2_CATALOG_URI", f"a URL of {url.drivername}", _URI_FORMS)
    if find_spec("psycopg") is None:
        raise SpecError("K2_CATALOG_URI", "no driver of PostgreSQL", "K2 installed with its extra `postgresql`")
    missing = {name: value for name, value in _POSTGRESQL_TIMEOUTS.items() if name not in url.query}
    limited = url.set(drivername=_DRIVER).update_query_dict(missing)
    return limited.render_as_string(hide_password=False)


CATALOG_FAULTS: Final = (SQLAlchemyError, RESTError, RequestException, ConnectionError, TimeoutError)
"""What a catalog that is locked, gone or slow raises; never an answer to a commit."""


def describe_fault(error: Exception) -> str:
    """Return what a catalog raised as one line without secrets.

    A driver's own words name host, user and database; SQLAlchemy's add the statement, a URL's would add the password.
    """
    cause = error.orig if isinstance(error, DBAPIError) else None if isinstance(error, SQLAlchemyError) else error
    words = " ".join(str(cause or "").split())[:_LONGEST_FAULT]
    return f"{type(error).__name__} ({words})" if words else type(error).__name__


@contextlib.contextmanager
def answering(warehouse: str, properties: Mapping[str, str]) -> Iterator[None]:
    """Translate what catalog and warehouse raise inside.

    Raises:
        CatalogUnavailableError: The catalog does not answer.
        StorageUnavailableError: The warehouse does not.
    """
    try:
        yield
    except CATALOG_FAULTS as error:
        raise CatalogUnavailableError(f"catalog: found {describe_fault(error)}, expected an answer") from error
    except OSError as error:
        raise storage_fault(error, warehouse, properties) from error


def table_name(namespace: str, form: TableForm) -> tuple[str, str]:
    """Return a table's identifier, such as `("market", "trades")`."""
    return (namespace, form.name)


def partition_spec(schema: Schema) -> PartitionSpec:
    """Return day(event_time), bucket(16, symbol)."""
    day, symbol = schema.find_field("event_time"), schema.find_field("symbol")
    return PartitionSpec(
        PartitionField(day.field_id, _FIRST_PARTITION_FIELD_ID, DayTransform(), "event_day"),
        PartitionField(
            symbol.field_id, _FIRST_PARTITION_FIELD_ID + 1, BucketTransform(SYMBOL_BUCKETS), "symbol_bucket"
        ),
    )


def sort_columns(schema_names: list[str]) -> list[str]:
    """Return the columns that rows are sorted by, of those that a table has."""
    return [name for name in SORT_COLUMNS if name in schema_names]


def sort_order(schema: Schema) -> SortOrder:
    """Return symbol, event_time, trade_id, ascending; no order for a table that has none of them."""
    names = sort_columns([field.name for field in schema.fields])
    if not names:
        return UNSORTED_SORT_ORDER
    return SortOrder(*(SortField(schema.find_field(name).field_id, IdentityTransform()) for name in names))


def load_table(catalog: Catalog, namespace: str, form: TableForm) -> Table | None:
    """Return the table, or None if there is none.

    Raises:
        CatalogUnavailableError: The catalog does not answer.
        StorageUnavailableError: The table's metadata cannot be read.
    """
    with answering(catalog.properties.get("warehouse", ""), catalog.properties):
        try:
            return catalog.load_table(table_name(namespace, form))
        except NoSuchTableError:
            return None


def ensure_table(catalog: Catalog, namespace: str, form: TableForm, pipeline_uid: str) -> Table:
    """Return the table, created for this pipeline if it is missing. Whose it is, is the commit protocol's to check.

    Raises:
        CatalogUnavailableError: The catalog does not answer.
        StorageUnavailableError: The warehouse does not take the table's metadata.
    """
    found = load_table(catalog, namespace, form)
    if found is not None:
        return found
    schema = form.iceberg_schema
    merging = {} if form.partitioned else MERGING
    more: dict[str, Any] = {"properties": TABLE_PROPERTIES | merging | {PIPELINE_KEY: pipeline_uid}}
    with answering(catalog.properties.get("warehouse", ""), catalog.properties):
        try:
            catalog.create_namespace_if_not_exists(namespace)
        except (IntegrityError, ServerError):  # another sink was faster: catalogs look first and write then
            catalog.create_namespace_if_not_exists(namespace)  # it is there now, or this says what is wrong
        try:
            return catalog.create_table(
                table_name(namespace, form),
                schema=schema,
                partition_spec=partition_spec(schema) if form.partitioned else UNPARTITIONED_PARTITION_SPEC,
                sort_order=sort_order(schema),
                **more,
            )
        except (TableAlreadyExistsError, ServerError):  # another sink was faster; some servers have no word for it
            if (made := load_table(catalog, namespace, form)) is None:
                raise
            return made
