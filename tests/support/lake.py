"""A catalog and a warehouse in a folder, and the whole truth of what a trades table holds, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.table import Table

from k2_core.config import ServiceSettings
from k2_core.records import TRADES
from k2_core.state import STATE_KEY, CommitState
from k2_core.tables import load_table, open_catalog
from support.records import Record, arrow_rows, plain_rows


def lake_environment(folder: Path) -> dict[str, str]:
    """Return the variables that name a catalog and a warehouse in a folder."""
    return {
        "K2_CATALOG_URI": f"sqlite:///{folder}/catalog.db?timeout=30",
        "K2_WAREHOUSE": f"file://{folder}/warehouse",
    }


def lake_settings(folder: Path, **more: Any) -> ServiceSettings:
    """Return settings that name a catalog and a warehouse in a folder."""
    environment = {name.removeprefix("K2_").lower(): value for name, value in lake_environment(folder).items()}
    return ServiceSettings.model_validate(environment | more)


def environment_settings(environment: Mapping[str, str]) -> ServiceSettings:
    """Return the settings that a service with these variables has."""
    given = {name.removeprefix("K2_").lower(): value for name, value in environment.items()}
    return ServiceSettings.model_validate({name: given[name] for name in ServiceSettings.model_fields if name in given})


def trades_table(where: Path | ServiceSettings, namespace: str = "market") -> Table | None:
    """Return the trades table in a folder, or where settings say, as it is now, or None."""
    settings = lake_settings(where) if isinstance(where, Path) else where
    with closing(open_catalog(settings)) as catalog:
        return load_table(catalog, namespace, TRADES)


def table_rows(where: Path | ServiceSettings, namespace: str = "market") -> pa.Table:
    """Return all rows of the trades table in Arrow form; no rows where there is no table."""
    table = trades_table(where, namespace)
    if table is None or table.current_snapshot() is None:
        return TRADES.table_schema.empty_table()
    return table.scan().to_arrow().cast(TRADES.table_schema)


def records_of(rows: pa.Table) -> list[Record]:
    """Return rows as the records that were produced, without the columns that the sink adds."""
    return plain_rows(rows.select(TRADES.wire_schema.names))


def committed_state(where: Path | ServiceSettings, namespace: str = "market") -> CommitState | None:
    """Return the state that the table's property holds."""
    table = trades_table(where, namespace)
    text = table.metadata.properties.get(STATE_KEY) if table else None
    return CommitState.parse(text) if text else None


def by_message_id(records: list[Record]) -> dict[str, Record]:
    """Return records by their id; an id that stands twice fails the test."""
    found = {record["message_id"]: record for record in records}
    assert len(found) == len(records), "an id stands twice"
    return found


def table_form(trades: list[Record]) -> pa.Table:
    """Return records as the sink holds them before it sorts: all of one partition of the log, from offset 0."""
    rows = arrow_rows(trades)
    added = [
        rows.column("exchange_timestamp"),
        pa.array(["topic"] * len(trades)),
        pa.array([0] * len(trades), pa.int32()),
        pa.array(range(len(trades)), pa.int64()),
    ]
    return pa.Table.from_arrays([*rows.columns, *added], schema=TRADES.table_schema)
