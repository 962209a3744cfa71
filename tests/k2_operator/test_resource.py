from __future__ import annotations

from typing import Any

import pytest

from k2_operator.resource import Resource
from support.operator import plain_body


def resource(**metadata: Any) -> Resource:
    body = plain_body("p")
    body["metadata"] |= {"resourceVersion": "7", "generation": 3, **metadata}
    return Resource.of(body)


def test_a_fresh_one() -> None:
    found = resource()
    assert (found.generation, found.version, found.deleting, found.suspend, found.held) == (3, "7", False, False, False)
    assert (found.ran, found.was_suspended, found.skips_drain, found.phase) == (False, False, False, "")


@pytest.mark.parametrize(
    ("phase", "ran"),
    [
        pytest.param("Pending", False, id="pending"),
        pytest.param("Running", True, id="running"),
        pytest.param("Deleting", True, id="deleting"),
    ],
)
def test_what_ran(phase: str, ran: bool) -> None:
    body = plain_body("p") | {"status": {"phase": phase}}
    body["metadata"]["resourceVersion"] = "1"
    assert Resource.of(body).ran is ran


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        pytest.param({"annotations": {"k2.dev/force-delete": "true"}}, True, id="annotation"),
        pytest.param({"annotations": {"k2.dev/force-delete": "yes"}}, False, id="another word"),
        pytest.param({"annotations": None}, False, id="none"),
        pytest.param({"finalizers": ["foregroundDeletion"]}, True, id="foreground"),
    ],
)
def test_the_drain_is_skipped_at_a_deletion_only(metadata: dict[str, Any], expected: bool) -> None:
    assert resource(deletionTimestamp="now", **metadata).skips_drain is expected
    assert resource(**metadata).skips_drain is False


def test_suspend_is_read_even_from_a_wrong_spec() -> None:
    body = plain_body("p", suspend=True, nonsense=1)
    body["metadata"]["resourceVersion"] = "1"
    assert Resource.of(body).suspend
