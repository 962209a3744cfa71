from __future__ import annotations

import pytest
from pydantic import SecretStr

from k2_core.errors import SpecError
from k2_query.auth import key_ring
from k2_query.settings import DEVELOPMENT_KEY, QuerySettings

LONG_ENOUGH = "0123456789abcdef"


def ring_of(keys: str | None, **settings: object) -> QuerySettings:
    values = {"api_keys": None if keys is None else SecretStr(keys)} | settings
    return QuerySettings.model_validate(values)


def test_a_key_opens_and_names_its_owner() -> None:
    ring = key_ring(ring_of(f"alice.{LONG_ENOUGH}, bob.{LONG_ENOUGH}x"))
    assert ring.owner(f"alice.{LONG_ENOUGH}", "10.0.0.9") == "alice"
    assert ring.owner(f"bob.{LONG_ENOUGH}x", None) == "bob"


@pytest.mark.parametrize(
    "presented",
    [
        None,
        "",
        "alice",
        "alice.",
        f"alice.{LONG_ENOUGH}x",
        f"alice.{LONG_ENOUGH[:-1]}",
        f"bob.{LONG_ENOUGH}",
        f"eve.{LONG_ENOUGH}",
        "ü.é",
        DEVELOPMENT_KEY,
    ],
    ids=repr,
)
def test_nothing_else_does(presented: str | None) -> None:
    ring = key_ring(ring_of(f"alice.{LONG_ENOUGH},bob.{LONG_ENOUGH}x"))
    assert ring.owner(presented, "127.0.0.1") is None


def test_the_development_key_is_for_clients_on_loopback_only() -> None:
    ring = key_ring(ring_of(None, embedded=True))
    assert ring.owner(DEVELOPMENT_KEY, "127.0.0.1") == DEVELOPMENT_KEY
    assert ring.owner(DEVELOPMENT_KEY, "192.0.2.7") is None
    assert ring.owner(DEVELOPMENT_KEY, None) is None
    assert ring.owner(DEVELOPMENT_KEY + ".x", "127.0.0.1") is None


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (None, "found no key"),
        (" , ", "found no key"),
        ("alice", "key 1 without an id or with a secret of 0 characters"),
        (f"alice.{LONG_ENOUGH},bob.short", "key 2 without an id or with a secret of 5 characters"),
        (f".{LONG_ENOUGH}", "key 1 without an id"),
        (f"alice.{LONG_ENOUGH},alice.{LONG_ENOUGH}", "the id alice twice"),
    ],
    ids=["none", "empty", "no-secret", "short", "no-id", "twice"],
)
def test_unusable_keys_are_refused_without_showing_them(keys: str | None, expected: str) -> None:
    with pytest.raises(SpecError) as refusal:
        key_ring(ring_of(keys))
    assert expected in str(refusal.value)
    assert LONG_ENOUGH not in str(refusal.value)
    assert "short" not in str(refusal.value).replace("secrets", "")
