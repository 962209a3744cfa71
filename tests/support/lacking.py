"""What a machine lacks: tests that need it are skipped and say so; under `CI`, where all must be there, they fail.

The second half is for every skip of any test, whatever its way: `tests/conftest.py` takes both hooks from here.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

from k2_core.errors import SetupError


@contextmanager
def needed(what: str) -> Iterator[None]:
    """Make of a SetupError inside what the lack of `what` means."""
    missing = None
    try:
        yield
    except SetupError as error:
        missing = f"needs {what}: {error}"
    if missing is not None:  # outside the handler, so that the report shows this alone
        pytest.skip(missing)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a failure of a test's skip under `CI`."""
    report = yield
    if not hasattr(report, "wasxfail"):  # an expected failure, which pytest counts among the skipped
        _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Make a failure of a whole module's skip under `CI`."""
    report = yield
    _fail_if_skipped(report)
    return report


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and os.environ.get("CI"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"found under CI: {reason.removeprefix('Skipped: ')}; expected no test to be skipped"
