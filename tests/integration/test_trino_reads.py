"""What pyiceberg writes to PostgreSQL and S3, Trino reads; and a machine that cannot run it is told why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest

from support import trino as trino_servers
from support.postgres import LocalPostgres
from support.query import BASE, Logged, World, event_time, make_records, table_rows
from support.s3 import LocalS3
from support.trino import LocalTrino

NAMESPACE = "market"


@pytest.fixture
def world(postgres: LocalPostgres, s3: LocalS3, tmp_path: Path) -> Iterator[World]:
    """A table in PostgreSQL and on S3, without any Kafka."""
    lake = {"K2_CATALOG_URI": postgres.database(), **s3.environment(s3.bucket())}
    with closing(World("127.0.0.1:1", tmp_path, NAMESPACE, lake=lake)) as made:
        yield made


@pytest.mark.trino
def test_trino_reads_each_snapshot_of_the_table(trino: LocalTrino, world: World) -> None:
    records = make_records("BTCUSDT", 1, 500, BASE) + make_records("ETHUSDT", 1, 20, BASE + timedelta(minutes=20))
    halves = (records[:300], records[300:])
    snapshots = []
    for half in halves:
        rows = table_rows(Logged(record, "t", 0, at) for at, record in enumerate(half))  # type: ignore[arg-type]
        snapshots.append(world.write(rows, None))
    table = f"{trino.catalog(world.settings)}.{NAMESPACE}.trades"
    for snapshot, expected in zip(snapshots, (records[:300], records), strict=True):
        figures = "count(*), sum(price), sum(quantity), to_iso8601(max(event_time)), count(DISTINCT message_id)"
        [found] = trino.query(" ".join(["SELECT", figures, "FROM", table, "FOR VERSION AS OF", str(snapshot)]))
        assert [found[0], Decimal(found[1]), Decimal(found[2]), found[4]] == [
            len(expected),
            sum(record["price"] for record in expected),
            sum(record["quantity"] for record in expected),
            len(expected),
        ]
        newest = max(event_time(record) for record in expected)
        assert found[3] == newest.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_without_memory_it_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Little:
        available = 3_000_000_000

    def little() -> Any:
        return Little()

    monkeypatch.setattr(trino_servers, "find_java", lambda: Path("/bin/true"))
    monkeypatch.setattr(psutil, "virtual_memory", little)
    with pytest.raises(pytest.skip.Exception, match=r"needs Trino: found 3\.0 GB of memory available, expected 6 GB"):
        trino_servers.start_or_skip(LocalTrino(tmp_path))
