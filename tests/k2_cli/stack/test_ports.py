"""k2_cli.stack.ports."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import psutil
import pytest

from k2_cli.stack import ports


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server((ports.LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


def test_a_port_with_a_listener_is_not_free(taken: int) -> None:
    assert not ports.is_free(taken)


def test_the_holder_is_named(taken: int) -> None:
    assert ports.holder(taken) == f"process {os.getpid()} ({psutil.Process().name()})"


def test_a_holder_that_the_system_hides_is_another_program(monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    def hidden(kind: str) -> list[object]:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", hidden)
    assert ports.holder(taken) == "another program"


def test_a_seed_gives_the_same_port_until_it_is_taken() -> None:
    port = ports.find_free("seed")
    assert port == ports.find_free("seed")
    assert 20_000 <= port < 32_000
    with socket.create_server((ports.LOOPBACK, port)):
        assert ports.find_free("seed") != port
    assert ports.find_free("seed", avoid=frozenset({port})) != port
