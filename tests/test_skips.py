"""No test is skipped under `CI`, whatever its way to be; elsewhere the run says why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
HOOKS = "from support.lacking import pytest_make_collect_report, pytest_runtest_makereport\n"
WAYS = {
    "in_a_test": "def test_it(): pytest.skip('no gold')",
    "by_a_mark": "@pytest.mark.skipif(True, reason='no gold')\ndef test_it(): pass",
    "in_a_fixture": "@pytest.fixture\ndef gold(): pytest.skip('no gold')\ndef test_it(gold): pass",
    "by_what_is_lacking": (
        "from k2_core.errors import SetupError\nfrom support.lacking import needed\n"
        "def test_it():\n    with needed('gold'):\n        raise SetupError('no gold')"
    ),
    "whole_module": "pytest.skip('no gold', allow_module_level=True)",
}


def run(folder: Path, ci: str, **modules: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(HOOKS)
    for name, text in modules.items():
        (folder / f"test_{name}.py").write_text(f"import pytest\n{text}\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)],
        cwd=folder,
        env={**os.environ, "CI": ci, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("way", WAYS)
def test_under_ci_it_fails_with_the_reason(way: str, tmp_path: Path) -> None:
    done = run(tmp_path, "true", **{way: WAYS[way]})
    assert done.returncode in {pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED}, done.stdout
    assert "no gold; expected no test to be skipped" in done.stdout


def test_elsewhere_it_is_skipped_with_the_reason(tmp_path: Path) -> None:
    done = run(tmp_path, "", **WAYS)
    assert done.returncode in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}, done.stdout
    assert f"{len(WAYS)} skipped" in done.stdout
    assert done.stdout.count("no gold") == len(WAYS)


def test_what_is_expected_to_fail_may(tmp_path: Path) -> None:
    done = run(tmp_path, "true", known="@pytest.mark.xfail(strict=True)\ndef test_it(): assert False")
    assert done.returncode == pytest.ExitCode.OK, done.stdout
    assert "1 xfailed" in done.stdout


def test_these_tests_have_the_hooks(request: pytest.FixtureRequest) -> None:
    hooks = request.config.hook
    for hook in (hooks.pytest_runtest_makereport, hooks.pytest_make_collect_report):
        assert "support.lacking" in {one.function.__module__ for one in hook.get_hookimpls()}
