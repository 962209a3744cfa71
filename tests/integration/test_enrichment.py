"""Reference data joined to trades by running sinks: exactly those trades that are off a step, at level 0 and after."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from k2_cli.stack.kafka import LocalKafka
from k2_core.quality import QUALITY
from k2_core.tables import load_table, open_catalog
from support.records import Record, make_trades
from support.sink import SinkWorkspace
from support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.levels]

Found = tuple[str, str, str]
"""Symbol, trade id, finding."""

STEPS: Final = [
    ("0.01", "0.00001"),
    ("0.05", "0.001"),
    ("0.5", "1"),
    ("3", "0.7"),
    ("0.01", None),
    (None, "5"),
    (None, None),
    ("0.00000001", "0.00000001"),
    ("0.25", "200000000000"),
]
SYMBOLS: Final = {f"S{number}USDT": STEPS[number % len(STEPS)] for number in range(3 * len(STEPS))}
EACH: Final = 4
"""Trades of a symbol; of these one at most is off a step, so that a row of the findings is one trade."""


@pytest.fixture
def work(kafka: LocalKafka, tmp_path: Path) -> Iterator[SinkWorkspace]:
    named = {
        name: {key: size for key, size in zip(("tickSize", "stepSize"), steps, strict=True) if size is not None}
        for name, steps in SYMBOLS.items()
    }
    workspace = SinkWorkspace(
        kafka.bootstrap_servers, tmp_path, priorities=dict.fromkeys(SYMBOLS, "normal"), steps=named
    )
    yield workspace
    workspace.close()


def made(seed: int, first_id: int) -> list[Record]:
    """Return trades on their steps, but for one at most of each symbol and number."""
    chance, trades = random.Random(f"{seed}/steps"), []
    for name, steps in SYMBOLS.items():
        mine = make_trades(EACH, symbols=(name,), seed=seed, first_id=first_id)
        for field, step in zip(("price", "quantity"), steps, strict=True):
            size = Decimal(step or "0.01")
            off = chance.choice([None, *range(EACH)])
            for at, trade in enumerate(mine):
                trade[field] = (size * chance.randrange(1, 1000)).quantize(Decimal("1e-8"))
                if at == off:
                    trade[field] += Decimal("1e-8")
        for trade in mine:
            trade |= {"vendor_data": {}, "receive_timestamp": trade["exchange_timestamp"]}
        trades += mine
    return trades


def off_steps(trades: list[Record]) -> Counter[Found]:
    """Return what is to be found, by Python's Decimal on each trade."""
    found: Counter[Found] = Counter()
    for trade in trades:
        tick, lot = SYMBOLS[trade["symbol"]]
        for finding, number, step in (("off_tick", trade["price"], tick), ("off_lot", trade["quantity"], lot)):
            if step is not None and number % Decimal(step):
                found[trade["symbol"], trade["trade_id"], finding] += 1
    return found


def in_the_table(work: SinkWorkspace) -> Counter[Found]:
    table = load_table(open_catalog(work.settings), work.namespace, QUALITY)
    rows: list[dict[str, Any]] = table.scan().to_arrow().to_pylist() if table is not None else []
    assert all(row["trades"] == 1 for row in rows)
    return Counter((row["symbol"], row["example"].rpartition(":")[2], row["finding"]) for row in rows)


def test_at_level_0_each_trade_off_its_steps_is_found_once(work: SinkWorkspace) -> None:
    trades = made(1, 1)
    expected = off_steps(trades)
    assert {finding for _, _, finding in expected} == {"off_tick", "off_lot"}
    work.start(K2_SINK_CHECK_EVERY_S="0.2")
    work.produce(trades)
    wait_until(lambda: in_the_table(work) == expected, "the findings")
    work.check(trades)


def test_what_level_1_put_off_is_found_after_it_with_the_same_result(work: SinkWorkspace) -> None:
    """Each of its commits comes later than when it would have been due to look at the one before."""
    before, during = made(2, 1), made(3, 1_000)
    sink = work.start(K2_SINK_CHECK_EVERY_S="0.1")
    work.produce(before)
    wait_until(lambda: in_the_table(work) == off_steps(before), "the first findings")
    work.set_level(1)
    sink.wait_said("level changed")
    given = list(before)

    def commit(trades: list[Record]) -> None:
        given.extend(trades)
        work.produce(trades)
        wait_until(lambda: work.committed() == len(given), "them in the table")
        assert in_the_table(work) == off_steps(before)

    for start in range(4):
        commit(during[start::5])
    sink.kill()  # what was put off is in the table of trades, and in no sink's memory
    work.start(K2_SINK_CHECK_EVERY_S="0.1")
    commit(during[4::5])
    work.set_level(0)
    wait_until(lambda: in_the_table(work) == off_steps(before) + off_steps(during), "the findings of level 1")
    work.check(given)
