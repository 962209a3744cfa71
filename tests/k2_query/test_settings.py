from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from k2_core.spec import QuerySpec
from k2_query.settings import QuerySettings, is_loopback

EVERYWHERE = str(IPv4Address(0))


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), (EVERYWHERE, False),
     ("10.0.0.1", False), ("localhost.evil", False), ("", False), (None, False)],
    ids=str,
)  # fmt: skip
def test_loopback_is_what_never_leaves_the_machine(host: str | None, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("embedded", "host", "expected"),
    [(True, "127.0.0.1", True), (False, "127.0.0.1", False), (True, EVERYWHERE, False)],
    ids=["laptop", "cluster", "open"],
)
def test_the_development_key_needs_both_the_mode_and_loopback(embedded: bool, host: str, expected: bool) -> None:
    assert QuerySettings(embedded=embedded, listen_host=host).accepts_development_key() is expected


def test_the_port_is_the_pipeline_s_unless_the_environment_says_otherwise() -> None:
    assert QuerySettings().port_for(QuerySpec(port=8123)) == 8123
    assert QuerySettings(port=0).port_for(QuerySpec(port=8123)) == 0
