"""A process' share of its memory: grows with it, and which limit counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from k2_core import memory
from k2_core.memory import limit_bytes, memory_ratio

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_it_grows_with_what_the_process_holds() -> None:
    before = memory_ratio()
    held = bytearray(os.urandom(1)) * (64 * 2**20)
    after = memory_ratio()
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(len(held) / limit_bytes(), rel=0.2)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], MACHINE),
        (["1048576\n"], 2**20),
        (["max\n"], MACHINE),
        (["max", "2097152"], 2**21),
        (["9223372036854771712"], MACHINE),
        (["0"], MACHINE),
    ],
    ids=["none", "limited", "unlimited", "second-version", "more-than-the-machine", "zero"],
)
def test_the_smallest_limit_counts(tmp_path: Path, texts: list[str], expected: int) -> None:
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / str(number))
        files[-1].write_text(text)
    assert limit_bytes((tmp_path / "none", *files)) == expected


def test_a_system_without_these_files_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_RESIDENT", tmp_path / "none")
    assert memory_ratio() is None
