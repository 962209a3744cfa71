"""The rules that the operator gives its Trino, in force on a real one: what each user may do, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import pytest

from k2_operator.names import TRINO_MAINTAINER, TRINO_MAINTAINING, TRINO_READER, TRINO_READING, TRINO_WORKER
from k2_operator.rendering.trino_config import files, rules
from support.maintained import Maintained, maintained
from support.operator import operated
from support.postgres import LocalPostgres
from support.s3 import LocalS3
from support.trino import LocalTrino

pytestmark = [pytest.mark.trino, pytest.mark.timeout(600)]

COUNT: Final = 40
FREE: Final = "ALTER TABLE {market}.trades EXECUTE "
READS: Final = {
    "rows": "SELECT count(*) FROM {market}.trades",
    "metadata": 'SELECT count(*) FROM {market}."trades$files"',
}
CHANGES: Final = {
    "delete": "DELETE FROM {market}.trades WHERE symbol = 'BTCUSDT'",
    "insert": "INSERT INTO {market}.trades SELECT * FROM {market}.trades",
}
PROCEDURES: Final = {
    "optimize": FREE + "optimize",
    "expire": FREE + "expire_snapshots(retention_threshold => '7d')",
    "orphans": FREE + "remove_orphan_files(retention_threshold => '7d')",
}
NEVER: Final = {
    "drop": "DROP TABLE {market}.trades",
    "alter": "ALTER TABLE {market}.trades DROP COLUMN side",
    "property": "ALTER TABLE {market}.trades SET PROPERTIES format_version = 2",
    "create": "CREATE TABLE {market}.trades2 (a int)",
    "schema": "CREATE SCHEMA {catalog}.mine",
    "another table": "SELECT count(*) FROM {market}.other",
    "another table's rows": "DELETE FROM {market}.other",
    "another schema": 'SELECT count(*) FROM {catalog}.other."trades"',
    "procedure": "CALL {catalog}.system.unregister_table('market', 'trades')",
    "catalog": "DROP CATALOG {catalog}",
    "others' queries": 'SELECT query FROM system.runtime.queries WHERE "user" <> current_user',
}
OWN: Final = {TRINO_READER: TRINO_READING, TRINO_MAINTAINER: TRINO_MAINTAINING}


@dataclass(frozen=True)
class Guarded:
    """A lake behind the operator's rules.

    Args:
        lake: With K2's table of trades and two that are not K2's.
        catalogs: As the test's Trino calls each of the operator's.
    """

    lake: Maintained
    catalogs: Mapping[str, str]


@pytest.fixture(scope="module")
def guarded(trino: LocalTrino, postgres: LocalPostgres, s3: LocalS3) -> Iterator[Guarded]:
    """A lake with K2's table of trades and two that are not K2's, behind the operator's rules."""
    with maintained(trino, postgres, s3) as lake:
        lake.commit(COUNT, seed=1)
        for name in ("market.other", "other.trades"):
            schema = name.partition(".")[0]
            trino.query(f"CREATE SCHEMA IF NOT EXISTS {lake.trino_catalog}.{schema}")
            trino.query(f"CREATE TABLE {lake.trino_catalog}.{name} AS SELECT 1 AS a")
        names = {TRINO_READING: trino.catalog(lake.settings, security()), TRINO_MAINTAINING: lake.trino_catalog}
        found = rules(operated())
        for rule in (*found["catalogs"], *found["tables"]):
            rule["catalog"] = names[rule["catalog"]]
        with trino.guarded(found):
            yield Guarded(lake, names)


def security() -> dict[str, str]:
    """What the file of the reader's catalog says of who may do what."""
    effective = operated()
    assert effective.trino is not None
    text = files(effective, effective.trino, TRINO_WORKER, "4Gi")[f"{TRINO_READING}.properties"]
    return dict(line.split("=", 1) for line in text.splitlines() if line.startswith("iceberg.security="))


def said(lake: Guarded, text: str, user: str, catalog: str | None = None) -> str | None:
    """Return why a statement was refused, None if it was not; without a catalog in the one that is the user's."""
    name = lake.catalogs[catalog or OWN[user]]
    try:
        lake.lake.trino.query(text.format(catalog=name, market=f"{name}.market"), user)
    except AssertionError as error:
        return str(error)
    return None


def refused(lake: Guarded, text: str, user: str, catalog: str | None = None) -> bool:
    why = said(lake, text, user, catalog) or ""
    return any(words in why for words in ("PERMISSION_DENIED", "does not exist"))


@pytest.mark.parametrize("text", READS.values(), ids=READS)
@pytest.mark.parametrize("user", [TRINO_READER, TRINO_MAINTAINER])
def test_the_tables_are_read(guarded: Guarded, user: str, text: str) -> None:
    assert said(guarded, text, user) is None


@pytest.mark.parametrize(
    "text",
    [*CHANGES.values(), *PROCEDURES.values(), *NEVER.values()],
    ids=[*CHANGES, *PROCEDURES, *NEVER],
)
def test_who_reads_changes_nothing_and_sees_nothing_else(guarded: Guarded, text: str) -> None:
    assert refused(guarded, text, TRINO_READER)
    assert len(guarded.lake.held()) == COUNT


@pytest.mark.parametrize("text", PROCEDURES.values(), ids=PROCEDURES)
def test_who_maintains_may_maintain(guarded: Guarded, text: str) -> None:
    assert said(guarded, text, TRINO_MAINTAINER) is None
    assert len(guarded.lake.held()) == COUNT


@pytest.mark.parametrize("text", NEVER.values(), ids=NEVER)
def test_who_maintains_has_no_more_than_that(guarded: Guarded, text: str) -> None:
    assert refused(guarded, text, TRINO_MAINTAINER)


@pytest.mark.parametrize("text", [*READS.values(), "SELECT 1"], ids=[*READS, "nothing"])
@pytest.mark.parametrize("user", ["somebody", "k2-drain", "admin"])
def test_nobody_else_asks_anything(guarded: Guarded, user: str, text: str) -> None:
    assert "PERMISSION_DENIED" in (said(guarded, text, user, TRINO_READING) or "")


@pytest.mark.parametrize("text", [*READS.values(), *PROCEDURES.values()], ids=[*READS, *PROCEDURES])
@pytest.mark.parametrize("user", OWN)
def test_neither_has_the_catalog_of_the_other(guarded: Guarded, user: str, text: str) -> None:
    [others] = set(OWN.values()) - {OWN[user]}
    assert refused(guarded, text, user, others)
