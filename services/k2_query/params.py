"""What requests may ask for: one model a route, which also makes the documentation.

Whatever is not listed is refused. Messages say what was found and what was expected; `k2_query.problems` puts them into
the answer. Pure but for the clock that relative windows are counted from.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from k2_query.ordering import Order
from k2_query.segments import Window

MAX_ROWS: Final = 10_000
"""Of one answer: about 6 MB of JSON."""
DEFAULT_ROWS: Final = 1_000
MAX_WINDOW: Final = timedelta(days=1)
"""Of `/v1/trades/recent`; longer windows have a start and an end."""
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
_NEVER_US: Final = 2**62
_WINDOW: Final = re.compile(r"([1-9][0-9]{0,5})([smh])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours"}
_SYMBOL_PATTERN: Final = r"^[A-Z0-9][A-Z0-9._-]{0,31}$"


def _moment(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        found = datetime.fromisoformat(value)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("expected an ISO 8601 time such as 2024-08-08T23:54:15.5Z (a + must be sent as %2B)") from None
    if not _EARLIEST <= found < _LATEST:
        raise ValueError(f"expected a time from {_EARLIEST.year} to {_LATEST.year - 1}")
    return found


def _window(value: str) -> str:
    match = _WINDOW.fullmatch(value)
    if match is None or timedelta(**{_UNITS[match[2]]: int(match[1])}) > MAX_WINDOW:
        raise ValueError("expected a number and a unit up to 24h, such as 90s, 15m or 2h")
    return value


Symbol = Annotated[str, Field(pattern=_SYMBOL_PATTERN, description="The venue's own symbol, upper case: BTCUSDT")]
Moment = Annotated[datetime, BeforeValidator(_moment)]
Limit = Annotated[int, Field(ge=1, le=MAX_ROWS, description="Most rows in the answer")]
SnapshotNumber = Annotated[int, Field(ge=0, lt=2**63)]


class Query(BaseModel):
    """The base of all: nothing unknown, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TradesQuery(Query):
    """`/v1/trades`: the trades of a symbol with start <= event_time < end."""

    symbol: Symbol
    start: Moment | None = Field(default=None, description="ISO 8601, inclusive; UTC unless it says otherwise")
    end: Moment | None = Field(default=None, description="ISO 8601, exclusive; UTC unless it says otherwise")
    limit: Limit = DEFAULT_ROWS
    order: Order = Field(default=Order.ASC, description="asc: oldest first; desc: newest first")
    source: Literal["hybrid", "lake", "tail"] = Field(
        default="hybrid", description="hybrid: table and log; lake: the table alone; tail: what is not yet in the table"
    )
    snapshot_id: SnapshotNumber | None = Field(default=None, description="Read this snapshot alone")
    as_of: Moment | None = Field(default=None, description="Read the snapshot of this time alone")

    @model_validator(mode="after")
    def _consistent(self) -> TradesQuery:
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError(
                f"start: found {self.start.isoformat()}, expected a time before end {self.end.isoformat()}"
            )
        if self.snapshot_id is not None and self.as_of is not None:
            raise ValueError("as_of: found it beside snapshot_id, expected one of them")
        if (self.snapshot_id is not None or self.as_of is not None) and self.source == "tail":
            raise ValueError("source: found 'tail' with a snapshot, expected 'lake' or none")
        return self

    @property
    def window(self) -> Window:
        """The filter."""
        return _to_window(self.symbol, self.start, self.end)


class RecentQuery(Query):
    """`/v1/trades/recent`: the newest trades of a symbol."""

    symbol: Symbol
    window: Annotated[str, AfterValidator(_window)] | None = Field(
        default=None, description="How far back, such as 90s, 15m or 2h; 15m unless given"
    )
    window_minutes: Annotated[int, Field(ge=1, le=24 * 60)] | None = Field(default=None, description="Likewise")
    limit: Limit = DEFAULT_ROWS

    @model_validator(mode="after")
    def _one_window(self) -> RecentQuery:
        if self.window is not None and self.window_minutes is not None:
            raise ValueError("window_minutes: found it beside window, expected one of them")
        return self

    def window_at(self, now: datetime) -> Window:
        """Return the filter: no upper end, because the exchange's clock may be ahead of this one."""
        match = _WINDOW.fullmatch(self.window or f"{self.window_minutes or 15}m")
        back = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta()
        return _to_window(self.symbol, now - back, None)


class SummaryQuery(Query):
    """`/v1/summary/{symbol}`: the days from start to end, UTC."""

    start: Moment | None = Field(default=None, description="The first day, such as 2024-08-08")
    end: Moment | None = Field(default=None, description="The day after the last")

    @model_validator(mode="after")
    def _whole_days(self) -> SummaryQuery:
        for name, found in (("start", self.start), ("end", self.end)):
            if found is not None and found.time() != found.min.time():
                raise ValueError(f"{name}: found {found.isoformat()}, expected a day such as 2024-08-08")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError(
                f"start: found {self.start.date()}, expected a day before end {self.end.date()}, which is exclusive"
            )
        return self

    def window(self, symbol: str) -> Window:
        """Return the filter."""
        return _to_window(symbol, self.start, self.end)


class SnapshotsQuery(Query):
    """`/v1/snapshots`: newest first."""

    limit: Annotated[int, Field(ge=1, le=1_000, description="Most snapshots in the answer")] = 100


def _to_window(symbol: str, start: datetime | None, end: datetime | None) -> Window:
    return Window(symbol, 0 if start is None else to_us(start), _NEVER_US if end is None else to_us(end))


def to_us(moment: datetime) -> int:
    """Return a time as exact microseconds since 1970."""
    return (moment - _EARLIEST) // timedelta(microseconds=1)
