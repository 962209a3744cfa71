"""What a machine lacks: tests that need it are skipped and say so; under `CI`, where all must be there, they fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import pytest

from k2_core.errors import SetupError


def skip_or_fail(missing: str) -> NoReturn:
    """End the test, or all tests of the fixture that calls: skipped on a machine of somebody's own, failed under CI."""
    if os.environ.get("CI"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


@contextmanager
def needed(what: str) -> Iterator[None]:
    """Make of a SetupError inside what the lack of `what` means."""
    missing = None
    try:
        yield
    except SetupError as error:
        missing = f"needs {what}: {error}"
    if missing is not None:  # outside the handler, so that the report shows this alone
        skip_or_fail(missing)
