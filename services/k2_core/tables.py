"""The Iceberg tables: catalog, names, partitioning, sort order and properties.

Called by the sink (which creates and writes), the query service and the command line (which read). Only the sink's
`commit` module changes a table after it was created.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NoSuchTableError, RESTError, TableAlreadyExistsError
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.transforms import BucketTransform, DayTransform, IdentityTransform
from requests import RequestException
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from k2_core.config import ServiceSettings
from k2_core.errors import CatalogUnavailableError, SpecError
from k2_core.records import RecordType
from k2_core.state import PIPELINE_KEY

CATALOG_NAME: Final = "k2"
SYMBOL_BUCKETS: Final = 16
SORT_COLUMNS: Final = ("symbol", "event_time", "trade_id")
"""Of trades; other tables sort by those of these columns that they have."""

_FIRST_PARTITION_FIELD_ID: Final = 1000
"""Iceberg reserves ids from 1000 for partition fields (https://iceberg.apache.org/spec/#partition-evolution)."""
_S3_CONNECT_TIMEOUT_S: Final = 5
"""pyiceberg waits 60 s by default; a store that does not accept in 5 is away."""

TABLE_PROPERTIES: Final[dict[str, str]] = {
    "commit.retry.num-retries": "0",  # the library's retry would rebase a stale writer: the protocol decides instead
    "write.parquet.compression-codec": "zstd",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "write.metadata.metrics.default": "truncate(16)",
}


def open_catalog(settings: ServiceSettings) -> Catalog:
    """Return the catalog of the settings.

    Raises:
        SpecError: No catalog or warehouse is configured.
        CatalogUnavailableError: It does not answer.
    """
    if settings.catalog_uri is None or settings.warehouse is None:
        raise SpecError("K2_CATALOG_URI and K2_WAREHOUSE", "none", "the catalog's URI and the warehouse's URL")
    properties: dict[str, str | None] = {
        "type": settings.catalog_type,
        "uri": settings.catalog_uri.get_secret_value(),
        "warehouse": settings.warehouse,
        "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
    }
    if settings.s3_access_key is not None and settings.s3_secret_key is not None:
        properties |= {
            "s3.endpoint": settings.s3_endpoint or "",
            "s3.region": settings.s3_region,
            "s3.access-key-id": settings.s3_access_key.get_secret_value(),
            "s3.secret-access-key": settings.s3_secret_key.get_secret_value(),
            "s3.connect-timeout": str(_S3_CONNECT_TIMEOUT_S),
        }
    try:
        return load_catalog(CATALOG_NAME, **properties)
    except CATALOG_FAULTS as error:
        raise CatalogUnavailableError(f"catalog: found {type(error).__name__}, expected an answer") from error


CATALOG_FAULTS: Final = (SQLAlchemyError, RESTError, RequestException, ConnectionError, TimeoutError)
"""What a catalog that is locked, gone or slow raises; never an answer to a commit."""


def table_name(namespace: str, record_type: RecordType) -> tuple[str, str]:
    """Return a table's identifier, such as `("market", "trades")`."""
    return (namespace, record_type.name)


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
    """Return symbol, event_time, trade_id, ascending."""
    names = sort_columns([field.name for field in schema.fields])
    return SortOrder(*(SortField(schema.find_field(name).field_id, IdentityTransform()) for name in names))


def load_table(catalog: Catalog, namespace: str, record_type: RecordType) -> Table | None:
    """Return the table, or None if there is none.

    Raises:
        CatalogUnavailableError: The catalog does not answer.
    """
    try:
        return catalog.load_table(table_name(namespace, record_type))
    except NoSuchTableError:
        return None
    except CATALOG_FAULTS as error:
        raise CatalogUnavailableError(f"catalog: found {type(error).__name__}, expected an answer") from error


def ensure_table(catalog: Catalog, namespace: str, record_type: RecordType, pipeline_uid: str) -> Table:
    """Return the table, created for this pipeline if it is missing. Whose it is, is the commit protocol's to check.

    Raises:
        CatalogUnavailableError: The catalog does not answer.
    """
    found = load_table(catalog, namespace, record_type)
    if found is not None:
        return found
    schema = record_type.iceberg_schema
    more: dict[str, Any] = {"properties": TABLE_PROPERTIES | {PIPELINE_KEY: pipeline_uid}}
    try:
        with contextlib.suppress(IntegrityError):  # another sink was faster: SqlCatalog looks first and writes then
            catalog.create_namespace_if_not_exists(namespace)
        return catalog.create_table(
            table_name(namespace, record_type),
            schema=schema,
            partition_spec=partition_spec(schema),
            sort_order=sort_order(schema),
            **more,
        )
    except TableAlreadyExistsError:  # another sink was faster
        return catalog.load_table(table_name(namespace, record_type))
    except CATALOG_FAULTS as error:
        raise CatalogUnavailableError(f"catalog: found {type(error).__name__}, expected an answer") from error
