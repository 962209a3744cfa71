"""tools.toml: every entry can be read and found by the name of each program."""

from __future__ import annotations

from pathlib import Path, PurePath

import pytest

from k2_core.errors import SetupError
from onenode.catalog import Source, Tool, find, read_catalog

CATALOG = read_catalog()


@pytest.mark.parametrize("name", CATALOG)
def test_each_program_leads_to_its_tool(name: str) -> None:
    for program in CATALOG[name].programs:
        assert find(PurePath(program).name, CATALOG) == (CATALOG[name], program)


def test_a_tools_own_name_stands_for_its_first_program() -> None:
    assert find("kubernetes", CATALOG)[1] == "kube-apiserver"


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SetupError, match=r"found no tool 'kubctl', expected one of .*kubectl"):
        find("kubctl", CATALOG)


@pytest.mark.parametrize("name", [tool.name for tool in CATALOG.values() if tool.source is not Source.DEBIAN])
def test_what_debian_does_not_pin_is_pinned_here(name: str) -> None:
    assert CATALOG[name].version
    assert CATALOG[name].folder == f"{name}-{CATALOG[name].version}"


@pytest.mark.parametrize("name", [tool.name for tool in CATALOG.values() if tool.source is Source.WHEEL])
def test_wheels_have_digests(name: str) -> None:
    assert all(len(digest) == 64 for digest in CATALOG[name].sha256)
    assert CATALOG[name].sha256


def test_the_least_entry_has_what_a_message_needs(tmp_path: Path) -> None:
    (tmp_path / "tools.toml").write_text('[jq]\nfrom = "debian"\npackage = "jq"\nprograms = ["jq"]\n')
    assert read_catalog(tmp_path / "tools.toml") == {"jq": Tool("jq", Source.DEBIAN, ("jq",), "jq")}
