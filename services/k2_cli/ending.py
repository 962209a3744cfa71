"""What `k2 up` says of the data at its end: by the table itself, once all that wrote to it has ended."""

from __future__ import annotations

from typing import Final

from k2_cli.folder import StateFolder
from k2_core.errors import K2Error
from k2_core.state import owed_records

KEPT: Final = "what Kafka has is kept and committed after the next start"
ALL_COMMITTED: Final = (
    "stopped; everything received is committed (`k2 audit` proves it, `k2 up` goes on, `k2 reset` removes it)"
)


def how_it_stands(folder: StateFolder, last_seen: int) -> str:
    """Return the last word of an end at which every process ended well.

    Args:
        folder: Of the pipeline.
        last_seen: How many records sinks still owed when they were last asked, for when the table cannot be.
    """
    try:
        owed = _owed_to_table(folder)
    except K2Error as error:  # the end is no worse for it: nothing is lost, it is only not known
        seen = f"{last_seen:,} records were owed to the table when sinks were last asked"
        return f"stopped; {seen}, which itself does not say ({error}): {KEPT}"
    return f"stopped; {owed:,} records are owed to the table: {KEPT}" if owed else ALL_COMMITTED


def _owed_to_table(folder: StateFolder) -> int:
    from k2_cli.open_lake import open_lake  # noqa: PLC0415  # imports pyiceberg

    lake = open_lake(folder)
    state = lake.state() if lake is not None else None
    return owed_records(state.open_ledger) if state is not None else 0
