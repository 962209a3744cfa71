from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from k2_cli.stack.ports import find_free
from k2_core.errors import K2Error
from k2_core.records import TRADES
from k2_core.tables import open_catalog
from k2_query.budget import Budget
from k2_query.engine import Engine
from k2_query.engine_watch import WARM_UPS, EngineWatch
from k2_query.lake import NO_TABLE, Lake, LakeSnapshot
from k2_query.ordering import Order
from k2_query.segments import Window
from k2_query.trino_client import TrinoClient, TrinoServer
from k2_query.trino_engine import TrinoEngine
from support.maintained import maintained
from support.postgres import LocalPostgres
from support.s3 import LocalS3
from support.trino import LocalTrino

QUICKLY_S = 0.05


def engine(url: str) -> Engine:
    return TrinoEngine(TrinoClient(TrinoServer(url, "k2", "none"), connections=1), "none", "market")


class Late(TrinoEngine):
    """A Trino that is too late with its first answers, as one is that was just started."""

    late = 0

    def rows(self, lake: LakeSnapshot, window: Window, order: Order, limit: int, budget: Budget) -> pa.Table:
        self.late -= 1
        return super().rows(lake, window, order, limit, Budget(0.0) if self.late >= 0 else budget)


@contextmanager
def watched(
    one: Engine, told: Callable[[K2Error | None], None] = lambda _: None, lake: LakeSnapshot = NO_TABLE
) -> Iterator[EngineWatch]:
    watch = EngineWatch(one, lambda: lake, QUICKLY_S, told)
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


@pytest.fixture
def filled(trino: LocalTrino, postgres: LocalPostgres, s3: LocalS3) -> Iterator[tuple[Late, LakeSnapshot]]:
    """An engine, and a snapshot with rows."""
    with maintained(trino, postgres, s3) as held:
        held.commit(200, seed=1)
        lake = Lake(lambda: open_catalog(held.settings), "market", TRADES)
        lake.start()
        wait(lambda: lake.peek() is not None)
        head = lake.peek()
        lake.stop()
        assert head is not None
        client = TrinoClient(TrinoServer(trino.url, "k2", held.trino_catalog), connections=1)
        yield Late(client, held.trino_catalog, "market"), head.snapshot


@pytest.mark.trino
def test_it_is_ready_once_what_users_ask_is_answered_in_time(filled: tuple[Late, LakeSnapshot]) -> None:
    one, lake = filled
    one.late = 3
    told: list[K2Error | None] = []
    with watched(one, told.append, lake) as watch:
        wait(lambda: told.count(None) == 2)  # it answers what it is asked of health meanwhile
        assert watch.ready() == "found no answer of the engine yet, expected one"
        assert watch.check() is None
        wait(lambda: watch.ready() is None)
    assert one.late == -1
    assert set(told) == {None}


@pytest.mark.trino
def test_one_that_is_always_late_is_ready_after_a_while(filled: tuple[Late, LakeSnapshot]) -> None:
    one, lake = filled
    one.late = 1_000
    with watched(one, lake=lake) as watch:
        wait(lambda: watch.ready() is None)
        wait(lambda: watch.check() is None)
    assert one.late == 1_000 - WARM_UPS
