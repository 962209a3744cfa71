"""k2_cli.stack.guard, in this process: the request to the kernel is withdrawn after each test."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Iterator

import pytest

from k2_cli.stack import guard


@pytest.fixture(autouse=True)
def withdraw() -> Iterator[None]:
    yield
    guard.die_with_parent(os.getppid(), 0)


def test_the_true_parent_is_accepted() -> None:
    assert guard.die_with_parent(os.getppid())


def test_a_parent_that_is_gone_ends_the_child_before_the_command() -> None:
    # No command can be run by mistake: it would replace the tests.
    assert guard.main([str(os.getpid()), "k2-no-such-command"]) == 137


def test_a_command_that_does_not_exist_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["guard.py", str(os.getppid()), "k2-no-such-command"])
    with pytest.raises(SystemExit, match="127"):
        runpy.run_path(guard.__file__, run_name="__main__")
    assert capsys.readouterr().err == "cannot run k2-no-such-command: No such file or directory\n"


def test_elsewhere_than_on_linux_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert guard.die_with_parent(os.getppid())
