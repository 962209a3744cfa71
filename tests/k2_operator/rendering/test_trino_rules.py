"""The rules that the operator gives its Trino, in force on a real one: what each user may do, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import pytest

from k2_operator.names import TRINO_MAINTAINER, TRINO_READER
from k2_operator.rendering.trino_config import CATALOG, rules
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


@pytest.fixture(scope="module")
def guarded(trino: LocalTrino, postgres: LocalPostgres, s3: LocalS3) -> Iterator[Maintained]:
    """A lake with K2's table of trades and two that are not K2's, behind the operator's rules."""
    with maintained(trino, postgres, s3) as lake:
        lake.commit(COUNT, seed=1)
        for name in ("market.other", "other.trades"):
            schema = name.partition(".")[0]
            trino.query(f"CREATE SCHEMA IF NOT EXISTS {lake.trino_catalog}.{schema}")
            trino.query(f"CREATE TABLE {lake.trino_catalog}.{name} AS SELECT 1 AS a")
        text = json.dumps(rules(operated())).replace(f'"catalog": "{CATALOG}"', f'"catalog": "{lake.trino_catalog}"')
        with trino.guarded(json.loads(text)):
            yield lake


def said(lake: Maintained, text: str, user: str) -> str | None:
    """Return why a statement was refused, None if it was not."""
    try:
        lake.trino.query(text.format(catalog=lake.trino_catalog, market=f"{lake.trino_catalog}.market"), user)
    except AssertionError as error:
        return str(error)
    return None


@pytest.mark.parametrize("text", READS.values(), ids=READS)
@pytest.mark.parametrize("user", [TRINO_READER, TRINO_MAINTAINER])
def test_the_tables_are_read(guarded: Maintained, user: str, text: str) -> None:
    assert said(guarded, text, user) is None


@pytest.mark.parametrize("text", [*CHANGES.values(), *NEVER.values()], ids=[*CHANGES, *NEVER])
def test_who_reads_changes_nothing_and_sees_nothing_else(guarded: Maintained, text: str) -> None:
    refused = said(guarded, text, TRINO_READER)
    assert refused is not None
    assert "PERMISSION_DENIED" in refused or "does not exist" in refused
    assert len(guarded.held()) == COUNT


@pytest.mark.parametrize("text", PROCEDURES.values(), ids=PROCEDURES)
def test_who_maintains_may_maintain(guarded: Maintained, text: str) -> None:
    assert said(guarded, text, TRINO_MAINTAINER) is None
    assert len(guarded.held()) == COUNT


@pytest.mark.parametrize("text", NEVER.values(), ids=NEVER)
def test_who_maintains_has_no_more_than_that(guarded: Maintained, text: str) -> None:
    refused = said(guarded, text, TRINO_MAINTAINER)
    assert refused is not None
    assert "PERMISSION_DENIED" in refused or "does not exist" in refused


@pytest.mark.parametrize("text", [*READS.values(), "SELECT 1"], ids=[*READS, "nothing"])
@pytest.mark.parametrize("user", ["somebody", "k2-drain", "admin"])
def test_nobody_else_asks_anything(guarded: Maintained, user: str, text: str) -> None:
    assert "PERMISSION_DENIED" in (said(guarded, text, user) or "")
