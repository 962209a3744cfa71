from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from k2_cli.stack.ports import find_free
from k2_core.errors import K2Error
from k2_query.engine import Engine
from k2_query.engine_watch import EngineWatch
from k2_query.lake import NO_TABLE
from k2_query.trino_client import TrinoClient, TrinoServer
from k2_query.trino_engine import TrinoEngine
from support.trino import LocalTrino

QUICKLY_S = 0.05


def engine(url: str) -> Engine:
    return TrinoEngine(TrinoClient(TrinoServer(url, "k2", "none"), connections=1), "none", "market")


@contextmanager
def watched(one: Engine, told: Callable[[K2Error | None], None] = lambda _: None) -> Iterator[EngineWatch]:
    watch = EngineWatch(one, lambda: NO_TABLE, QUICKLY_S, told)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()
        one.close()


def wait(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_before_the_first_answer_there_is_none() -> None:
    watch = EngineWatch(engine("http://127.0.0.1:1"), lambda: NO_TABLE)
    assert watch.ready() == "found no answer of the engine yet, expected one"
    assert (watch.check() or "").startswith("found no answer within")
    assert watch.answers is None
    watch.stop()


def test_an_engine_that_does_not_answer_is_neither_ready_nor_well(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{find_free(str(tmp_path))}"
    told: list[K2Error | None] = []
    with watched(engine(url), told.append) as watch:
        wait(lambda: url in (watch.check() or ""))
        wait(lambda: len(told) > 1)
        assert {str(error) for error in told} == {watch.check()}
        assert "no connection" in (watch.ready() or "")
        assert watch.answers is False


@pytest.mark.trino
def test_an_engine_that_answers_is_ready_and_well(trino: LocalTrino) -> None:
    told: list[K2Error | None] = []
    with watched(engine(trino.url), told.append) as watch:
        wait(lambda: watch.check() is None)
        assert watch.ready() is None
        assert watch.answers is True
        wait(lambda: None in told)
