"""k2_cli.main: what a shell learns."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from k2_cli import main
from k2_cli.main import COMMANDS
from support.cli import k2


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_json(command: str) -> None:
    answer = k2(command, "--help")
    assert answer.code == 0
    assert f"Example:  k2 {command}" in answer.out
    assert "--json" in answer.out


def test_the_commands_are_these() -> None:
    answer = k2("--help")
    listed = [line.split()[0] for line in answer.out.partition("Commands:")[2].splitlines() if line.strip()]
    assert [name for name in listed if name in COMMANDS] == list(COMMANDS)
    assert "130 interrupted" in " ".join(answer.out.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["up", "--nonsense"], "(see `k2 up --help`)", id="unknown option"),
        pytest.param(["nonsense"], "No such command 'nonsense'. (see `k2 --help`)", id="unknown command"),
        pytest.param(["up", "--port", "x"], "--port", id="wrong type"),
        pytest.param(["query"], "Missing argument 'symbol'", id="missing argument"),
        pytest.param(["up"], "-f: found nothing, expected a pipeline file", id="no pipeline"),
        pytest.param(["up", "-f", "/no/such.yaml"], "document: found /no/such.yaml", id="no such file"),
        pytest.param(["up", "--once"], "--once: found no --capture", id="once without captures"),
        pytest.param(["up", "x.gz"], "arguments: found 'x.gz'", id="a stray file"),
        pytest.param(["up", "--capture", "/no/such.gz"], "--capture: found /no/such.gz", id="no such capture"),
        pytest.param(["up", "--capture", "a", "--synthetic"], "--synthetic: found --capture too", id="two sources"),
        pytest.param(["up", "--speed", "2"], "--speed: found no --capture", id="speed of nothing"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments: list[str], said: str) -> None:
    answer = k2(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert said in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(("spec:", "spec:\n  sinks: {}"), "spec.sinks: found an unknown key", id="unknown key"),
        pytest.param(("port: 8000", "port: low"), "spec.query.port: found 'low'", id="wrong type"),
        pytest.param(("venue: binance", ""), "spec.ingestion[0].venue: found nothing", id="missing part"),
    ],
)
def test_a_bad_pipeline_names_path_found_and_expected(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    example = (Path(__file__).parents[2] / "manifests" / "pipeline.yaml").read_text()
    (tmp_path / "pipeline.yaml").write_text(example.replace(*change, 1))
    answer = k2("up", "-f", tmp_path / "pipeline.yaml", "--dir", tmp_path / "d")
    assert answer.code == 2
    assert said in answer.err
    assert "expected" in answer.err
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "d").exists()


def test_no_command_shows_the_help() -> None:
    assert k2() == k2("--help")


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "application", interrupted)
    assert main.main([]) == 130


def test_it_is_one_program_under_two_names(tmp_path: Path) -> None:
    for command in ([str(Path(sys.executable).with_name("k2"))], [sys.executable, "-m", "k2_cli"]):
        ended = subprocess.run([*command, "status", "--dir", tmp_path], capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout) == (1, f"{tmp_path}: nothing runs\n")


def test_a_command_does_not_import_the_others() -> None:
    code = (
        "import sys; from k2_cli.main import main; main(['status', '--dir', '/x']); print('k2_cli.up' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "False"
