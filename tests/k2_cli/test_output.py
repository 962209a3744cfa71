"""k2_cli.output."""

from __future__ import annotations

import json

import pytest

from k2_cli import output


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(None, "-", id="unknown is no zero"),
        pytest.param(0, "0", id="zero"),
        pytest.param(1_234_567, "1,234,567", id="thousands"),
        pytest.param(1234.56, "1,234.6", id="tenths"),
        pytest.param(True, "yes", id="true"),
        pytest.param(False, "no", id="false"),
        pytest.param("[bold]", "[bold]", id="text"),
    ],
)
def test_values_as_people_read_them(value: object, text: str) -> None:
    assert output.shown(value) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        pytest.param(999, "999 B", id="bytes"),
        pytest.param(1_500, "1.5 kB", id="kilo"),
        pytest.param(2_000_000, "2.0 MB", id="mega"),
        pytest.param(20 * 10**9, "20.0 GB", id="giga"),
        pytest.param(3 * 10**12, "3.0 TB", id="tera"),
    ],
)
def test_sizes_have_units(size: int, text: str) -> None:
    assert output.shown_bytes(size) == text


def test_json_is_one_line_on_stdout_and_words_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("starting")
    output.print_json({"a": [1, None]})
    captured = capsys.readouterr()
    assert captured.err == "k2: starting\n"
    assert captured.out.count("\n") == 1
    assert json.loads(captured.out) == {"a": [1, None]}


def test_tables_keep_whole_cells_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    wide = "x" * 150
    output.print_table(("name", "rows"), [(wide, 1_000), ("[i]", None)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [wide, "1,000"]
    assert lines[2].split() == ["[i]", "-"]
    assert lines[1].rstrip().endswith("1,000")


def test_an_empty_table_is_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("name", "rows"), [])
    assert capsys.readouterr().out.split() == ["name", "rows"]
