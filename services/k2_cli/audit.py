"""`k2 audit`: is everything there, exactly once?

Reads one snapshot, and the raw files that its open ledger ranges lead to, whether the pipeline runs or not, and prints
what `k2_cli.completeness` finds in it. Exit 1 when anything is missing, owed, doubled or unbalanced.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from k2_cli import output
from k2_cli.exits import ExitCode
from k2_cli.folder import DEFAULT_DIR, StateFolder
from k2_core.errors import RawFileError, StorageUnavailableError
from k2_core.state import entry_document, loss_document, owed_records

if TYPE_CHECKING:
    from k2_cli.completeness import Books, PartitionAccount, SymbolDay
    from k2_core.raw_files import RawFiles
    from k2_core.state import CommitState, LedgerEntry

EXAMPLE: Final = "Example:  k2 audit --dir .k2 --json"
SHOWN_RANGES: Final = 3


def audit(
    directory: Annotated[Path, typer.Option("--dir", help="State folder of the pipeline.")] = DEFAULT_DIR,
    *,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Prove completeness: every trade id of every symbol and day, and every position of the log. Exit 1 if not."""
    # Table formats take seconds to import, and no other command should wait for them.
    from k2_cli.completeness import COLUMNS, Holdings, books, symbol_days  # noqa: PLC0415
    from k2_cli.open_lake import open_lake  # noqa: PLC0415
    from k2_core.raw_files import RawFiles  # noqa: PLC0415

    lake = open_lake(StateFolder(directory))
    holdings = Holdings()
    for rows in lake.read(COLUMNS) if lake is not None else ():
        holdings.add(rows)
    state = lake.state() if lake is not None else None
    found, account = symbol_days(holdings), books(holdings, state)
    files = RawFiles(lake.table.io, lake.table.location()) if lake is not None else None
    snapshot = lake.snapshot.snapshot_id if lake is not None and lake.snapshot is not None else None
    owed = owed_records(state.open_ledger) if state is not None else 0
    complete = account.balanced and not owed and not any(day.missing or day.duplicates for day in found)
    if json_output:
        document = {"complete": complete, "snapshot_id": snapshot, "rows": holdings.rows}
        document |= {"unnumbered_rows": holdings.unnumbered, "foreign_rows": account.foreign_rows}
        document |= {"owed_records": owed}
        output.print_json(document | _document(found, account, state, files))
    else:
        _print(found, account, state, files, complete=complete)
    raise typer.Exit(ExitCode.OK if complete else ExitCode.NOT_WELL)


def _document(
    days: Iterable[SymbolDay], account: Books, state: CommitState | None, files: RawFiles | None = None
) -> dict[str, object]:
    return {
        "symbols": [
            {
                "exchange": day.exchange,
                "market": day.market,
                "symbol": day.symbol,
                "day": day.day.isoformat(),
                "first": day.first,
                "last": day.last,
                "expected": day.expected,
                "stored": day.stored,
                "missing": day.missing_count,
                "missing_ranges": [list(ids) for ids in day.missing],
                "duplicates": day.duplicates,
            }
            for day in days
        ],
        "partitions": [_partition(at) for at in account.accounts],
        "open_ledger": _entries(state, files),
        "losses": [loss_document(loss) for loss in state.losses] if state is not None else [],
    }


def _entries(state: CommitState | None, files: RawFiles | None) -> list[dict[str, object]]:
    """Return the open ledger ranges; of one with raw files, the newest one's URL and what is wrong with them."""
    entries = state.open_ledger if state is not None else ()
    return [entry_document(entry) | (_raw(files, entry) if files is not None else {}) for entry in entries]


def _raw(files: RawFiles, entry: LedgerEntry) -> dict[str, object]:
    if entry.raw_file is None:
        return {}
    found: dict[str, object] = {"raw_file": files.path(entry.raw_file), "raw_problem": None}
    try:
        files.count(entry)
    except (RawFileError, StorageUnavailableError) as error:
        found["raw_problem"] = str(error)
    return found


def _partition(at: PartitionAccount) -> dict[str, object]:
    return {
        "topic": at.topic,
        "topic_id": at.topic_id,
        "partition": at.partition,
        "origin": at.state.origin,
        "next": at.state.next,
        "rows": at.rows,
        "duplicates": at.state.duplicates,
        "dead_letters": at.state.dead_letters,
        "markers": at.state.markers,
        "lost": at.state.lost,
        "unexplained": at.state.unexplained,
        "aged": at.state.aged,
        "deferred": at.deferred,
        "repeated_positions": at.repeated,
        "outside_positions": at.outside,
        "balanced": at.balanced,
    }


def _print(
    days: list[SymbolDay],
    account: Books,
    state: CommitState | None,
    files: RawFiles | None = None,
    *,
    complete: bool,
) -> None:
    columns = ("venue", "market", "symbol", "day", "first id", "last id", "expected", "stored", "missing", "duplicates")
    output.print_table((*columns, "missing ids"), map(_row, days))
    for entry, document in zip(state.open_ledger if state is not None else (), _entries(state, files), strict=True):
        where = f"{entry.topic}[{entry.partition}] offsets {entry.start} to {entry.end}"
        since = datetime.fromtimestamp(entry.since_ms / 1000, tz=UTC).isoformat(timespec="seconds")
        records = f"{entry.records:,} records of {', '.join(entry.symbols)} since {since}"
        kept = f", kept in raw file {document['raw_file']}" if entry.raw_file is not None else ""
        output.console().print(f"owed: {where}, {records}: {entry.reason}{kept}")
        if document.get("raw_problem"):
            output.console().print(f"      while the log has the range it is read there: {document['raw_problem']}")
    for loss in state.losses if state is not None else ():
        end = "an end that nobody knows" if loss.end is None else loss.end
        output.console().print(f"lost: {loss.topic}[{loss.partition}] offsets {loss.start} to {end}: {loss.reason}")
    for at in account.accounts:
        if not at.balanced:
            output.console().print(f"does not balance: {_partition(at)}")
    if account.foreign_rows:
        output.console().print(f"{account.foreign_rows:,} rows come from topics that the commit state does not know")
    balanced = sum(at.balanced for at in account.accounts)
    output.console().print(
        f"log: {balanced} of {len(account.accounts)} partitions balance "
        "(next - origin = rows + duplicates + dead letters + markers + lost + unexplained + aged + deferred)"
    )
    owed = owed_records(state.open_ledger) if state is not None else 0
    lacking = f"NOT complete: {owed:,} records are owed" if owed else "NOT complete"
    output.console().print("complete: every id and every position is there exactly once" if complete else lacking)


def _row(day: SymbolDay) -> tuple[object, ...]:
    ids = (str(day.first), str(day.last))  # as text: people look for them without thousands apart
    counts = (day.expected, day.stored, day.missing_count, day.duplicates)
    return (day.exchange, day.market, day.symbol, day.day, *ids, *counts, _ranges(day))


def _ranges(day: SymbolDay) -> str:
    shown = [f"{first}-{last}" if first != last else f"{first}" for first, last in day.missing[:SHOWN_RANGES]]
    more = len(day.missing) - SHOWN_RANGES
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
