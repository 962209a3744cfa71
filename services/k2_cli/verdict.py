"""Was a replay taken in exactly once? The captured trades against the table's rows, as sets of ids and of values.

Pure: two Arrow tables in, counts out; the comparison is one DuckDB query, which shares nothing with the writers. Called
by `k2_cli.replay` and by tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import duckdb
import pyarrow as pa

ROW_COLUMNS: Final = (
    "message_id",
    "symbol",
    "exchange",
    "market",
    "trade_id",
    "sequence",
    "side",
    "price",
    "quantity",
    "exchange_timestamp",
    "receive_timestamp",
    "event_time",
)
"""What is read of the table."""

_QUERY: Final = """
WITH stored AS (
    SELECT *, sequence AS id, epoch_us(exchange_timestamp) AS exchange_us, epoch_us(event_time) AS event_us
    FROM lake WHERE exchange = 'binance' AND market = 'spot' AND symbol IN (SELECT symbol FROM captured)
), matched AS (
    SELECT s.symbol, s.id, coalesce(bool_or(
        s.price = c.price AND s.quantity = c.quantity AND s.side = c.side AND s.exchange_us = c.exchange_us
        AND s.event_us = c.exchange_us AND s.trade_id = c.trade_id::VARCHAR
        AND s.message_id = 'binance:spot:' || c.symbol || ':' || c.trade_id
    ), false) AS exact
    FROM stored s JOIN captured c ON s.symbol = c.symbol AND s.id = c.trade_id GROUP BY ALL
), counted AS (
    SELECT count(*) AS copies FROM stored SEMI JOIN captured c ON stored.symbol = c.symbol AND stored.id = c.trade_id
    GROUP BY stored.symbol, stored.id
)
SELECT
    (SELECT count(*) FROM (SELECT DISTINCT symbol, trade_id FROM captured)),
    (SELECT count(*) FROM matched WHERE exact),
    (SELECT count(*) FROM matched WHERE NOT exact),
    (SELECT coalesce(sum(copies - 1), 0)::BIGINT FROM counted),
    (SELECT count(*) FROM stored ANTI JOIN captured c ON stored.symbol = c.symbol AND stored.id = c.trade_id
     WHERE stored.receive_timestamp >= make_timestamptz($since)),
    (SELECT any_value(symbol || ' ' || id) FROM matched WHERE NOT exact),
    (SELECT any_value(c.symbol || ' ' || c.trade_id) FROM captured c ANTI JOIN stored s
     ON s.symbol = c.symbol AND s.id = c.trade_id)
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a capture's distinct trades.

    Args:
        expected: Distinct trades in the capture.
        committed: Those of them that the table holds with equal values, once or more.
        altered: Those of them that the table holds with other values only.
        duplicates: Rows of captured trades beyond one for each.
        unexpected: Rows that came in during the replay and that no capture holds.
        example: An altered or missing trade, or None.
    """

    expected: int
    committed: int
    altered: int
    duplicates: int
    unexpected: int
    example: str | None

    @property
    def missing(self) -> int:
        """Captured trades that the table does not hold as they were captured."""
        return self.expected - self.committed

    @property
    def exact(self) -> bool:
        """Whether what went in is what came out, each once."""
        return not (self.missing or self.duplicates or self.unexpected)

    def complaints(self) -> list[str]:
        """Return what is wrong, a line each."""
        example = f", such as {self.example}" if self.example else ""
        found = (
            (self.missing, f"{self.missing:,} captured trades are not in the table as they were captured{example}"),
            (self.altered, f"{self.altered:,} of them are there with other values"),
            (self.duplicates, f"{self.duplicates:,} rows are copies of another one"),
            (self.unexpected, f"{self.unexpected:,} rows came in that no capture holds"),
        )
        return [text for count, text in found if count]


def judge(captured: pa.Table, lake: pa.Table, since_us: int) -> Verdict:
    """Compare.

    Args:
        captured: `k2_cli.captured.Captured.table`.
        lake: Rows with `ROW_COLUMNS` of one snapshot.
        since_us: When the replay began, UTC microseconds; older rows that no capture holds are none of its business.
    """
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("captured", captured)
        connection.register("lake", lake)
        row = connection.execute(_QUERY, {"since": since_us}).fetchone()
    if row is None:
        raise AssertionError("a query of scalars gives one row")
    expected, committed, altered, duplicates, unexpected, wrong, absent = row
    return Verdict(expected, committed, altered, duplicates, unexpected, wrong or absent)
