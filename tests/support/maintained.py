"""A lake on PostgreSQL and S3, written by the sink's own commits without Kafka, and its maintenance through Trino."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from prometheus_client import CollectorRegistry
from pyiceberg.catalog import Catalog

from k2_core.config import ServiceSettings
from k2_core.records import TRADES
from k2_core.tables import open_catalog
from k2_core.types import Level, Offset, Partition, TopicId, TopicName
from k2_query.maintenance.upkeep import Outcome, Upkeep
from k2_query.trino_client import TrinoClient, TrinoServer
from k2_sink.checking import Checking, Expected
from k2_sink.commit import Committed, Owner, TableWriter
from k2_sink.files import FileWriter, sort_rows
from k2_sink.metrics import SinkMetrics
from k2_sink.projection import Tables, Turns
from k2_sink.protocol import Claim, Span
from support.lake import environment_settings, records_of, table_form, table_rows
from support.postgres import LocalPostgres
from support.records import Record, make_trades
from support.s3 import LocalS3
from support.trino import LocalTrino

AT = (TopicName("market.crypto.trades.binance"), Partition(0))
OWNER = Owner("uid", "cluster")
DAY = dt.date(2026, 1, 5)
"""Of all trades that `make_trades` makes."""
NEXT_DAY = dt.datetime(2026, 1, 6, 3, 0, tzinfo=dt.UTC)
NOTHING_KEPT = dt.timedelta(0)


@dataclass
class Maintained:
    """A table that a sink writes and Trino maintains.

    Args:
        environment: Variables of its services.
        trino: Whoever maintains it.
        s3: Where its files are.
    """

    environment: Mapping[str, str]
    trino: LocalTrino
    s3: LocalS3
    catalog: Catalog
    settings: ServiceSettings
    trino_catalog: str
    records: list[Record] = field(default_factory=list)

    @cached_property
    def writer(self) -> TableWriter:
        """The sink's; it makes the table."""
        return TableWriter(self.catalog, "market", TRADES, OWNER, sleep=lambda _: None)

    def commit(self, count: int, seed: int, symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT")) -> list[Record]:
        """Commit trades as a sink does, and return them."""
        made = make_trades(count, seed=seed, symbols=symbols)
        for record in made:  # seeds number their trades alike
            record["message_id"] = f"{record['message_id']}-{seed}"
        files = [
            FileWriter(self.writer.table, 3).write(group, f"{seed}-{at}")
            for at, group in enumerate(sort_rows(table_form(made)))
        ]
        start = len(self.records)
        span = Span(Offset(start), Offset(start + count))
        done = self.writer.commit(Claim(OWNER.cluster_id, {AT[0]: TopicId("id")}, {AT: span}, f"b{start}"), files)
        assert isinstance(done, Committed)
        self.records += made
        return made

    def checking(self) -> Checking:
        """Return the sink's search for what is wrong in the table, due at each call."""
        tables = Tables(self.catalog, "market", OWNER.pipeline_uid)
        return Checking(tables, Expected((), {}), SinkMetrics(CollectorRegistry()), Turns(0.0))

    def look(self) -> int:
        """Have it look at the rows that it has not seen, and return how many: until then none are rewritten."""
        return self.checking().step(Level.NORMAL)

    def held(self) -> list[Record]:
        """Return the table's rows."""
        return records_of(table_rows(self.settings))

    @contextmanager
    def upkeep(self, **changes: Any) -> Iterator[Upkeep]:
        """Return its maintenance, at a time when all its days are past."""
        user = changes.pop("user", "k2")
        url = changes.pop("url", self.trino.url)
        with closing(TrinoClient(TrinoServer(url, user, self.trino_catalog), connections=1)) as client:
            options: dict[str, Any] = {"keep": NOTHING_KEPT, "utc_now": lambda: NEXT_DAY, "sleep": lambda _: None}
            yield Upkeep(self.catalog, client, self.trino_catalog, "market", **options | changes)

    def age(self, days: float) -> None:
        """Make all files in the bucket older."""
        [bucket, _] = self.environment["K2_WAREHOUSE"].removeprefix("s3://").split("/")
        for path in (self.s3.directory / "buckets" / bucket).rglob("*"):
            if path.is_file():
                at_s = path.stat().st_mtime - days * 86_400
                os.utime(path, (at_s, at_s))

    def maintain(self, **changes: Any) -> list[Outcome]:
        """Maintain all tables once; whatever was wrong fails the test."""
        with self.upkeep(**changes) as upkeep:
            outcomes = list(upkeep.carry_out(upkeep.plan()))
        assert [outcome.error for outcome in outcomes if outcome.error is not None] == []
        return outcomes


@contextmanager
def maintained(trino: LocalTrino, postgres: LocalPostgres, s3: LocalS3) -> Iterator[Maintained]:
    """Return a new lake, empty."""
    environment = {"K2_CATALOG_URI": postgres.database(), **s3.environment(s3.bucket())}
    settings = environment_settings(environment)
    with closing(open_catalog(settings)) as catalog:
        yield Maintained(environment, trino, s3, catalog, settings, trino.catalog(settings))
