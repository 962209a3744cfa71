"""Writers of a real table whose catalog can go wrong in the middle of a commit, for tests of the protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy.exc import OperationalError

from k2_core.config import ServiceSettings
from k2_core.records import TRADES
from k2_core.tables import open_catalog
from k2_core.types import Offset, Partition, TopicId, TopicName
from k2_sink.commit import Owner, TableWriter
from k2_sink.files import FileWriter, sort_rows
from k2_sink.protocol import Claim, Span
from support.lake import lake_settings, table_form
from support.records import Record

TOPIC = TopicName("market.crypto.trades.binance")
OWNER = Owner("uid", "cluster")


def writer(where: Path | ServiceSettings, catalog: Catalog | None = None, owner: Owner = OWNER) -> TableWriter:
    """Return a writer that does not wait, of the table in a folder or where settings say."""
    settings = lake_settings(where) if isinstance(where, Path) else where
    return TableWriter(catalog or open_catalog(settings), "market", TRADES, owner, sleep=lambda _: None)


def claim(start: int, end: int, *, partition: int = 0, batch_id: str = "b") -> Claim:
    """Return a claim on a range of one partition."""
    at = (TOPIC, Partition(partition))
    return Claim("cluster", {TOPIC: TopicId("id")}, {at: Span(Offset(start), Offset(end))}, batch_id)


def write(to: TableWriter, trades: list[Record], name: str) -> list[Any]:
    """Write trades as data files and return them."""
    groups = sort_rows(table_form(trades))
    return [FileWriter(to.table, 3).write(group, f"{name}-{number}") for number, group in enumerate(groups)]


class Faulty:
    """A real catalog whose commits can be made to go wrong, before or after they took place."""

    def __init__(self, real: Catalog) -> None:
        self._commit = real.commit_table
        self.before: list[Callable[[], None]] = []
        self.after: list[Callable[[], None]] = []
        setattr(real, "commit_table", self.commit_table)  # noqa: B010  # an assignment would not type-check
        self.catalog = real

    def commit_table(self, *arguments: Any) -> Any:
        if self.before:
            self.before.pop(0)()
        answer = self._commit(*arguments)
        if self.after:
            self.after.pop(0)()
        return answer

    def lose_the_answer(self) -> None:
        """Raise what the catalog's client does when its server goes away."""
        if isinstance(self.catalog, SqlCatalog):
            raise OperationalError("COMMIT", {}, Exception("the server closed the connection"))
        raise requests.ConnectionError("the server closed the connection")
