"""How a running pipeline looks: a live table in a terminal, a line every ten seconds anywhere else, JSON lines on wish.

Called by `k2_cli.up` with figures; knows nothing of where they come from.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from k2_cli.live import Figures, age, line
from k2_cli.output import print_json, shown

LINE_EVERY_S: Final = 10.0
_LEVELS: Final = ("NORMAL", "SOFT", "GRACEFUL", "AGGRESSIVE", "CIRCUIT_BREAK")


class View(Protocol):
    """Shows figures, again and again."""

    def show(self, figures: Figures, now_s: float) -> None:
        """Show figures; `now_s` is monotonic."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""


def choose_view(*, json_lines: bool, terminal: bool) -> View:
    """Return the view for what stdout is."""
    if terminal and not json_lines:
        return TableView()
    return LineView(json_lines=json_lines)


class LineView(AbstractContextManager["LineView"]):
    """A line every ten seconds on stdout.

    Args:
        json_lines: As JSON objects.
    """

    def __init__(self, *, json_lines: bool) -> None:
        self._json = json_lines
        self._next_s: float | None = None

    def show(self, figures: Figures, now_s: float) -> None:
        """See `View.show`."""
        if self._next_s is None:
            if figures == Figures():  # nobody answers yet
                return
            self._next_s = now_s + LINE_EVERY_S
        if now_s < self._next_s:
            return
        self._next_s += LINE_EVERY_S
        if self._json:
            print_json(figures.document())
        else:
            sys.stdout.write(line(figures) + "\n")
            sys.stdout.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to undo."""


class TableView(AbstractContextManager["TableView"]):
    """A table that stays in place; what else is said appears above it.

    Args:
        console: Where to; None is stdout.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        # A command that was broken into two lines cannot be pasted: the terminal itself wraps what is too long.
        self._console.soft_wrap = True
        self._stack = ExitStack()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        """Take the terminal's last lines over."""
        self._live = self._stack.enter_context(
            Live(render(Figures()), console=self._console, auto_refresh=False, transient=True)
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back."""
        self._stack.close()

    def show(self, figures: Figures, now_s: float) -> None:
        """See `View.show`."""
        del now_s
        if self._live is not None:
            self._live.update(render(figures), refresh=True)


def render(figures: Figures) -> Table:
    """Return the figures as a small table."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    cells = {
        "messages/s in": shown(_rounded(figures.messages_per_s)),
        "unread lag": shown(figures.unread_records),
        "rows committed": shown(figures.rows_committed),
        "newest row": shown(None) if figures.newest_row_age_s is None else f"{age(figures.newest_row_age_s)} ago",
        "gaps": shown(figures.gaps),
        "level": f"{level} {_LEVELS[level]}" if (level := figures.level) is not None else shown(None),
    }
    for name in cells:
        table.add_column(name, justify="right", header_style="dim", min_width=max(len(name), 12))
    table.add_row(*cells.values())
    return table


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)
