"""What commands print: answers on stdout, everything said on the way on stderr.

Called by every command. With `--json` stdout holds exactly one JSON document (or one a line where a command goes on),
so that it can be piped; `say` never goes there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence

from rich.console import Console
from rich.table import Table

Say = Callable[[str], None]
"""Tells the user one line about what is going on."""

NOT_KNOWN = "-"
"""How a figure is shown that could not be read; never as 0."""


def console() -> Console:
    """The terminal or pipe behind stdout, as it is now; never with markup, as names may hold brackets."""
    return Console(file=sys.stdout, markup=False, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Tell the user one line, on stderr."""
    sys.stderr.write(f"k2: {text}\n")
    sys.stderr.flush()


def print_json(document: object) -> None:
    """Print one JSON document on one line."""
    sys.stdout.write(json.dumps(document, default=str) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Print rows under headings; numbers to the right, None as unknown."""
    rows = [list(row) for row in rows]
    table = Table(title=title, box=None, header_style="bold", pad_edge=False, title_justify="left")
    for index, name in enumerate(columns):
        numbers = all(isinstance(row[index], int | float | None) for row in rows)
        table.add_column(name, justify="right" if numbers and rows else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(shown(value) for value in row))
    Console(file=sys.stdout, markup=False, highlight=False, width=_width()).print(table)


def _width() -> int | None:
    """No limit in a pipe: cut numbers are wrong numbers."""
    return None if sys.stdout.isatty() else 400


def shown(value: object) -> str:
    """A value as people read it: thousands apart, seconds to a tenth, unknown as `-`."""
    match value:
        case None:
            return NOT_KNOWN
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.1f}"
    return str(value)


def shown_bytes(size: int) -> str:
    """A size with its unit, decimal as disks are sold: `1.5 GB`."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
