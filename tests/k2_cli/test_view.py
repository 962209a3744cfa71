"""k2_cli.view."""

from __future__ import annotations

import io
import json
import sys

import pytest
from rich.console import Console

from k2_cli.live import Figures
from k2_cli.view import LINE_EVERY_S, LineView, TableView, choose_view

FIGURES = Figures(1234.4, 5, 1_000_000, 2.34, 0, 4)


@pytest.mark.parametrize(
    ("json_lines", "terminal", "kind"),
    [
        pytest.param(False, True, TableView, id="terminal"),
        pytest.param(False, False, LineView, id="pipe"),
        pytest.param(True, True, LineView, id="json"),
    ],
)
def test_the_view_fits_what_stdout_is(json_lines: bool, terminal: bool, kind: type) -> None:
    assert isinstance(choose_view(json_lines=json_lines, terminal=terminal), kind)


def test_lines_come_every_ten_seconds_once_there_is_something(capsys: pytest.CaptureFixture[str]) -> None:
    with LineView(json_lines=False) as view:
        view.show(Figures(), 0.0)
        view.show(FIGURES, 100.0)
        view.show(FIGURES, 100.0 + LINE_EVERY_S - 0.1)
        assert capsys.readouterr().out == ""
        view.show(FIGURES, 100.0 + LINE_EVERY_S)
        view.show(FIGURES, 101.0 + LINE_EVERY_S)
        assert capsys.readouterr().out.count("\n") == 1
        view.show(FIGURES, 100.0 + 2 * LINE_EVERY_S)
    assert "rows committed 1,000,000" in capsys.readouterr().out


def test_lines_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    with LineView(json_lines=True) as view:
        view.show(FIGURES, 0.0)
        view.show(FIGURES, LINE_EVERY_S)
    assert json.loads(capsys.readouterr().out)["unread_records"] == 5


def test_a_table_in_a_terminal() -> None:
    screen = io.StringIO()
    view = TableView(Console(file=screen, force_terminal=True, width=120))
    view.show(FIGURES, 0.0)  # before it began: nothing to draw on
    with view:
        view.show(FIGURES, 1.0)
    text = screen.getvalue()
    for cell in ("messages/s in", "1,234", "1,000,000", "2.3 s ago", "4 CIRCUIT_BREAK"):
        assert cell in text


def test_what_is_said_above_the_table_is_not_broken_into_lines() -> None:
    command = "curl -s -H 'X-API-Key: key' 'http://127.0.0.1:8000/v1/trades/recent?symbol=BTCUSDT'"
    screen = io.StringIO()
    with TableView(Console(file=screen, force_terminal=True, width=60)):
        sys.stdout.write(command + "\n")
    assert command in screen.getvalue()
