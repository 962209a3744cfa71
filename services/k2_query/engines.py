"""Which engine reads the snapshots: DuckDB in this process, or a Trino.

Called by `k2_query.runtime`, and for the client alone by `k2_query.maintenance`. Trino's client is imported only where
it is asked for: mode `single` neither needs nor loads it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from pyiceberg.io import load_file_io

from k2_core.errors import SetupError, SpecError
from k2_core.spec import PipelineSpec
from k2_core.storage import file_properties
from k2_query.duckdb_engine import DuckDBEngine
from k2_query.engine import Engine
from k2_query.files import open_files
from k2_query.settings import QuerySettings
from k2_query.trino_metrics import Told

if TYPE_CHECKING:
    from k2_query.trino_client import TrinoClient

_OWN_CATALOG: Final = "sqlite:"


def open_engine(
    settings: QuerySettings, spec: PipelineSpec, fetched: Callable[[int], None], told: Told = lambda _: None
) -> Engine:
    """Return the engine of a pipeline's mode. It connects to nothing before the first question.

    Args:
        settings: Endpoints, secrets and limits.
        spec: Mode and namespace.
        fetched: Told the bytes of each file that DuckDB's engine gets from object storage.
        told: Told of each question to Trino once it is over.

    Raises:
        SpecError: A setting is missing, or no Trino could read this lake.
        SetupError: Trino's client is not installed.
    """
    if spec.query.mode == "distributed":
        return _trino(settings, spec.namespace, told)
    return _duckdb(settings, fetched)


def _duckdb(settings: QuerySettings, fetched: Callable[[int], None]) -> Engine:
    warehouse = settings.warehouse
    if warehouse is None:
        raise SpecError("K2_WAREHOUSE", "none", "the URL below which the tables' files lie")
    properties = file_properties(settings)
    return DuckDBEngine(
        open_files(
            warehouse,
            lambda: load_file_io(properties, warehouse),
            settings.query_cache_dir,
            settings.query_cache_bytes,
            fetched,
        ),
        memory_bytes=settings.query_memory_bytes,
        threads=os.cpu_count() or 1,
        cursors=settings.query_concurrency,
    )


def _trino(settings: QuerySettings, namespace: str, told: Told) -> Engine:
    client = trino_client(settings, settings.query_concurrency, told)
    from k2_query.trino_engine import TrinoEngine  # noqa: PLC0415  # see the module's first lines

    return TrinoEngine(client, settings.trino_catalog, namespace)


def trino_client(
    settings: QuerySettings,
    connections: int,
    told: Told = lambda _: None,
    session: Mapping[str, str] | None = None,
) -> TrinoClient:
    """Return what asks the settings' Trino. It connects to nothing before the first question.

    Args:
        settings: Endpoints and secrets.
        connections: How many are kept open.
        told: Told of each question once it is over.
        session: Session properties of each question, beside its limit of time.

    Raises:
        SpecError: A setting is missing, or no Trino could read this lake.
        SetupError: Trino's client is not installed.
    """
    if settings.trino_url is None:
        raise SpecError("K2_TRINO_URL", "none", "the address of the Trino that spec.query.mode: distributed reads with")
    if settings.catalog_uri is not None and settings.catalog_uri.get_secret_value().startswith(_OWN_CATALOG):
        raise SpecError(
            "spec.query.mode",
            "distributed over a catalog in SQLite",
            "one in PostgreSQL or REST, which Trino can reach",
        )
    if find_spec("trino") is None:
        raise SetupError("found no Python package trino, expected K2 installed with its extra `distributed`")
    from k2_query.trino_client import TrinoClient, TrinoServer  # noqa: PLC0415  # see the module's first lines

    server = TrinoServer(
        url=settings.trino_url,
        user=settings.trino_user,
        catalog=settings.trino_catalog,
        password=settings.trino_password,
        token=settings.trino_token,
        ca_file=settings.trino_ca_file,
    )
    return TrinoClient(server, connections=connections, told=told, session=session)
