"""Tools in the cache: made once, whole or not at all, by one process at a time."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from k2_core.errors import SetupError
from onenode import debian, tools
from onenode.catalog import Source, Tool

GADGET = Tool("gadget", Source.GO, ("gadget",), "example.org/gadget", "1.2.3")


class Maker:
    """Stands where go would be called."""

    def __init__(self) -> None:
        self.calls = 0
        self.makes = ["gadget"]
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, _entry: Tool, _scratch: Path, programs: Path, _say: tools.Say) -> None:
        self.calls += 1
        assert self.may_go_on.wait(10)
        for name in self.makes:
            (programs / name).write_text("#!/bin/sh\n")


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    monkeypatch.setenv("K2_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tools, "read_catalog", lambda: {"gadget": GADGET})
    made = Maker()
    monkeypatch.setitem(tools._MAKERS, Source.GO, made)
    return made


def test_it_is_made_once(maker: Maker, tmp_path: Path) -> None:
    said: list[str] = []
    assert tools.tool("gadget", said.append) == tmp_path / "tools" / "gadget-1.2.3" / "gadget"
    assert tools.tool("gadget", said.append).exists()
    assert maker.calls == 1
    assert said[0] == "making gadget 1.2.3, once (a minute on two cores)"


def test_half_a_build_is_no_tool(maker: Maker, tmp_path: Path) -> None:
    maker.makes = []
    with pytest.raises(SetupError, match=r"gadget 1\.2\.3 was made without gadget"):
        tools.tool("gadget", lambda _: None)
    assert [path.name for path in (tmp_path / "tools").iterdir()] == ["gadget-1.2.3.lock"]


def test_what_a_killed_build_left_is_removed(maker: Maker, tmp_path: Path) -> None:
    left = tmp_path / "tools" / "make-gadget-1.2.3-x"
    left.mkdir(parents=True)
    tools.tool("gadget", lambda _: None)
    assert not left.exists()


def test_a_second_one_waits_for_the_first(maker: Maker) -> None:
    maker.may_go_on.clear()
    waits = threading.Event()
    first = threading.Thread(target=tools.tool, args=("gadget", lambda _: None))

    def hear(line: str) -> None:
        if "waiting" in line:
            waits.set()

    second = threading.Thread(target=tools.tool, args=("gadget", hear))
    first.start()
    while not maker.calls:
        first.join(0.01)
    second.start()
    assert waits.wait(10)
    maker.may_go_on.set()
    first.join()
    second.join()
    assert maker.calls == 1


def test_without_go_the_message_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("K2_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tools, "read_catalog", lambda: {"gadget": GADGET})
    with pytest.raises(SetupError, match=r"found no go on PATH, expected Go 1\.25 or newer"):
        tools.tool("gadget", lambda _: None)


def test_a_failed_step_shows_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"could not make gadget 1\.2\.3; it said:\nno such module"):
        tools._run(GADGET, ["sh", "-c", "echo no such module; exit 1"], lambda _: None, cwd=tmp_path)


class TestDebian:
    def test_without_root_the_message_names_the_package(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("K2_CACHE_DIR", str(tmp_path))
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        absent = Tool("absent", Source.DEBIAN, ("no-such-program",), "no-such-package")
        with pytest.raises(
            SetupError, match=r"^found no no-such-package; install Debian's package of that name as root$"
        ):
            tools.ensure_debian([absent], lambda _: None)

    def test_a_program_is_found_on_path_or_by_pattern(self, tmp_path: Path) -> None:
        for version in ("14", "15"):
            (tmp_path / version).mkdir()
            (tmp_path / version / "initdb").touch()
        assert debian.locate("sh") is not None
        assert debian.locate(f"{tmp_path}/*/initdb") == tmp_path / "15" / "initdb"
        assert debian.locate("no-such-program") is None
        assert debian.locate(f"{tmp_path}/*/postgres") is None
