"""Spare-time work: a fault of one part keeps neither the other part nor the sink from going on."""

from __future__ import annotations

import pytest

from k2_core.errors import CatalogUnavailableError, SetupError, StateError
from k2_core.quality import QUALITY
from k2_core.tables import load_table, open_catalog
from k2_core.types import Level
from k2_sink.upkeep import Upkeep
from support.records import make_trades
from support.sink import SinkWorkspace
from support.waiting import wait_until


class Step:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.levels: list[Level] = []
        self.closed = False

    def step(self, level: Level) -> int:
        self.levels.append(level)
        if self.error is not None:
            raise self.error
        return 0

    def close(self) -> None:
        self.closed = True


ERRORS = [CatalogUnavailableError("catalog: away"), StateError("table: another's"), SetupError("Kafka refused")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_fails_is_said_and_the_rest_is_done(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    parts = [Step(error) for _ in range(6)]
    Upkeep(*parts).step(Level.SOFT)  # type: ignore[arg-type]
    assert [part.levels for part in parts] == [[Level.SOFT]] * 6
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "raw files",
        "checks",
        "ledger",
        "letters",
        "old rows",
        "files of old rows",
    ]


def test_what_holds_on_to_kafka_is_closed() -> None:
    parts = [Step() for _ in range(4)]
    Upkeep(*parts).close()  # type: ignore[arg-type]
    assert [part.closed for part in parts] == [False, False, False, True]


@pytest.mark.kafka
def test_a_sink_looks_through_what_it_committed_and_a_level_puts_it_off(
    work: SinkWorkspace,
) -> None:
    """The symbols are in no list, so each of the trades is found; those of level 1 once it is over."""
    work.priorities = {"LISTEDUSDT": "normal"}
    first, second = make_trades(40, seed=1), make_trades(60, seed=2, first_id=10_000)

    def found() -> int:
        table = load_table(open_catalog(work.settings), work.namespace, QUALITY)
        rows = table.scan().to_arrow().to_pylist() if table is not None else []
        return sum(row["trades"] for row in rows if row["finding"] == "unlisted_symbol")

    work.produce(first)
    sink = work.start(K2_SINK_CHECK_EVERY_S="0.2")
    wait_until(lambda: found() == 40, "the first trades in the findings")
    work.set_level(1)
    sink.wait_said("level changed")
    work.produce(second)
    wait_until(lambda: work.committed() == 100, "the others in the table")
    assert found() == 40
    work.set_level(0)
    wait_until(lambda: found() == 100, "them in the findings too")
    assert sink.terminate() == 0
    work.check([*first, *second])
