"""The shape of the repository: packages, namesakes of modules, links, names not to be shadowed or written."""

from __future__ import annotations

import ast
import importlib.machinery
import operator
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
SERVICES: Final = ROOT / "services"
SOURCES: Final = (SERVICES, ROOT / "operator")
TESTS: Final = ROOT / "tests"
PACKAGES: Final = sorted(path.parent for source in SOURCES for path in source.rglob("__init__.py"))
MODULES: Final = sorted(path for source in SOURCES for path in source.rglob("*.py") if path.name != "__init__.py")
DOCUMENTS: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

LONGEST_MODULE_LINES: Final = 400

TESTED_ELSEWHERE: Final[Mapping[str, str]] = {
    "k2_ingest/trade.py": "a named tuple without logic: test_encode.py and venues/test_binance.py make and read it",
    "k2_ingest/exchange/hub.py": "seen over real sockets only, in exchange/test_server.py",
    "k2_ingest/exchange/session.py": "seen over real sockets only, in exchange/test_server.py",
    "k2_core/policy/scaling_state.py": "a record without logic: policy/test_scaling.py and test_memory.py hold it",
    "k2_query/engine.py": "a protocol without logic: test_engine_contract.py holds both engines to it",
    "k2_query/log_batches.py": "decodes real messages only, in test_tail.py and test_log_reader.py",
    "k2_query/service.py": "what each route answers, over HTTP in test_app.py",
    "k2_cli/lake.py": "reads real tables only, in test_audit.py, test_tables.py and test_verdict.py",
    "k2_cli/launch.py": "starts real processes only, in integration/test_run_capture.py",
    "k2_cli/findings.py": "one read of a real table, in test_quality.py",
    "k2_cli/maintaining.py": "opens a real catalog and a real Trino only, in test_maintain.py",
    "k2_cli/open_lake.py": "one call on a real catalog, in test_audit.py and test_tables.py",
    "k2_cli/recovery/adoption.py": "what `k2 adopt` plans, on real tables in test_adopt.py",
    "k2_cli/recovery/going_back.py": "what `k2 rollback` plans, on real tables in test_rollback.py",
    "k2_cli/recovery/site.py": "opens real tables and brokers only, in test_adopt.py and test_adopt_topic.py",
    "k2_cli/recovery/topic_loss.py": "what `k2 adopt-topic` plans, on a real Kafka in test_adopt_topic.py",
    "k2_cli/up.py": "runs whole pipelines only, in integration/test_run_capture.py",
}
"""Modules without a test namesake, and why."""

_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE: Final = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_FORBIDDEN: Final[Mapping[str, re.Pattern[str]]] = {
    "a package index of somebody's own": re.compile(r"--(extra-)?index-url|--find-links|--trusted-host"),
    "somebody's home folder": re.compile(r"(?<![\w.$~}])/(home/[a-z]\w*|Users/[A-Za-z]\w*|root)/"),
    "where somebody keeps their captures": re.compile(r"shared[\"']? ?/ ?[\"']?data"),
    "a number on somebody's list of work": re.compile(r"\b[Ii]ssues? \d"),
}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tracked_texts() -> Mapping[str, str]:
    """The files that git knows, as far as they are text; in a copy without git those that it would not ignore."""
    texts = {}
    for name in tracked_names() if (ROOT / ".git").exists() else names_not_ignored():
        path = ROOT / name
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            texts[name] = content.decode("utf-8")
    return texts


def tracked_names() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.rstrip("\0").split("\0")


def names_not_ignored() -> list[str]:
    patterns = [".git", *(line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines())]
    names = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()]
    return [
        name.as_posix()
        for name in names
        if not any(fnmatch(part, pattern) for part in name.parts for pattern in patterns)
    ]


class TestOperator:
    """The folder `operator/` holds a package of its own; the standard library's module of that name must win."""

    def test_nothing_on_the_path_shadows_the_standard_library(self) -> None:
        searched = [ROOT, SERVICES, ROOT / "operator", TESTS, *map(Path, sys.path)]
        standard = Path(sysconfig.get_path("stdlib")).resolve()
        others = [str(path) for path in searched if path.resolve() != standard]
        spec = importlib.machinery.PathFinder.find_spec("operator", others)
        # A folder without __init__.py is at most a namespace package, which loses against any module.
        assert spec is None or spec.loader is None

    def test_the_folder_is_no_package(self) -> None:
        assert not (ROOT / "operator" / "__init__.py").exists()

    def test_an_interpreter_started_in_the_root_gets_the_right_one(self) -> None:
        code = "import operator; print(operator.__file__)"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout.strip() == operator.__file__


class TestPackages:
    @pytest.mark.parametrize("package", PACKAGES, ids=relative)
    def test_init_is_a_docstring_only(self, package: Path) -> None:
        body = ast.parse((package / "__init__.py").read_text()).body
        assert len(body) == 1
        assert isinstance(body[0], ast.Expr)
        assert isinstance(body[0].value, ast.Constant)
        assert isinstance(body[0].value.value, str)

    @pytest.mark.parametrize("package", [path for path in PACKAGES if path.parent in SOURCES], ids=relative)
    def test_it_says_that_it_is_typed(self, package: Path) -> None:
        assert (package / "py.typed").exists()

    @pytest.mark.parametrize("package", [path for path in PACKAGES if path.parent not in SOURCES], ids=relative)
    def test_folders_with_modules_are_packages_all_the_way_up(self, package: Path) -> None:
        assert (package.parent / "__init__.py").exists()


class TestModules:
    @pytest.mark.parametrize("module", MODULES, ids=relative)
    def test_it_has_a_namesake_among_the_tests(self, module: Path) -> None:
        name = module.relative_to(next(source for source in SOURCES if module.is_relative_to(source)))
        namesake = TESTS / name.parent / f"test_{name.stem.strip('_')}.py"
        if name.as_posix() in TESTED_ELSEWHERE:
            assert not namesake.exists(), f"{relative(namesake)} is there: take {name} off the list"
        else:
            assert namesake.exists(), f"found no {relative(namesake)}, expected one, or a reason in TESTED_ELSEWHERE"

    def test_the_list_of_exceptions_holds_modules_that_exist(self) -> None:
        assert [name for name in TESTED_ELSEWHERE if not any((source / name).exists() for source in SOURCES)] == []

    @pytest.mark.parametrize("module", MODULES, ids=relative)
    def test_it_opens_with_what_it_owns_and_is_not_too_long(self, module: Path) -> None:
        text = module.read_text()
        assert ast.get_docstring(ast.parse(text))
        assert len(text.splitlines()) <= LONGEST_MODULE_LINES


class TestDocuments:
    @pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
    def test_links_to_files_lead_somewhere(self, document: Path) -> None:
        links = _LINK.findall(_FENCE.sub("", document.read_text()))
        files = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:", link)]
        assert [link for link in files if link and not (document.parent / link).exists()] == []


class TestWords:
    @pytest.mark.parametrize("what", _FORBIDDEN, ids=lambda what: what.split()[-1])
    def test_no_tracked_file_holds(self, what: str) -> None:
        own = relative(Path(__file__))
        found = [
            f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
            for name, text in tracked_texts().items()
            if name != own
            for match in _FORBIDDEN[what].finditer(text)
        ]
        assert found == []

    def test_a_copy_without_git_is_searched_too(self) -> None:
        names = names_not_ignored()
        assert {"README.md", ".gitignore", relative(Path(__file__))} <= set(names)
        assert [name for name in names if name.startswith((".git/", ".venv/"))] == []
