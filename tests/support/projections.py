"""A trades table and whoever derives another table from it, at a time of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from prometheus_client import CollectorRegistry
from pyiceberg.catalog import Catalog

from k2_core.records import TRADES
from k2_core.tables import open_catalog
from k2_core.types import Partition, TopicName
from k2_sink.commit import Owner, TableWriter
from k2_sink.metrics import SinkMetrics
from k2_sink.projection import Tables, Turns
from support.lake import lake_settings

AT: Final = (TopicName("t"), Partition(0))
"""Where all records come from."""
UID: Final = "uid"
EVERY_S: Final = 60.0


@dataclass
class Derived:
    """A trades table in a folder; `metrics` are of whoever was asked for last."""

    folder: Path
    catalog: Catalog
    writer: TableWriter = field(init=False)
    metrics: SinkMetrics = field(init=False)
    now_s: float = 0.0

    @classmethod
    @contextmanager
    def in_folder(cls, folder: Path) -> Iterator[Self]:
        """Open a catalog there."""
        catalog = open_catalog(lake_settings(folder))
        try:
            yield cls(folder, catalog)
        finally:
            catalog.close()

    def __post_init__(self) -> None:
        self.writer = TableWriter(self.catalog, "market", TRADES, Owner(UID, "cluster"))

    def tables(self, catalog: Catalog | None = None) -> Tables:
        """Return the tables of this or another catalog."""
        return Tables(catalog or self.catalog, "market", UID)

    def due(self) -> Turns:
        """Return turns that are due at once, with metrics of their own."""
        self.metrics = SinkMetrics(CollectorRegistry())
        turns = Turns(EVERY_S, lambda: self.now_s)
        self.now_s += EVERY_S
        return turns
