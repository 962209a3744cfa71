"""`k2 lag` on a real Kafka and a real table: what is known in records and seconds, and what is not, never as 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from k2_cli.lag import in_words
from k2_core.controller.lag import Lag
from k2_core.spec import load_pipeline
from k2_core.types import Offset, Partition
from support.cli import k2
from support.records import make_trades
from support.recovery import Recovered
from support.sink import PATIENCE_S
from support.waiting import wait_until

SYMBOLS = tuple(f"S{number}USDT" for number in range(8))
RECORDS = ("unread", "uncommitted")
AGES = ("unread_age_s", "uncommitted_age_s")


def lag_of(work: Recovered) -> dict[str, Any]:
    answer = work.command("lag", "--json")
    assert answer.code == 0, answer.err
    return dict(answer.document)


def figures(where: dict[str, Any], names: tuple[str, ...]) -> list[Any]:
    return [where[name] for name in names]


def busy(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in found["partitions"] if one["end"] > one["start"]]


@pytest.mark.kafka
def test_what_nobody_told_is_not_known_and_what_is_behind_has_an_age(work: Recovered) -> None:
    nothing = lag_of(work)
    assert figures(nothing, (*RECORDS, *AGES, "committed_age_s")) == [0, 0, 0.0, 0.0, None]
    assert {one["topic"] for one in nothing["topics"]} == {work.topic}

    first, second = make_trades(300, symbols=SYMBOLS, seed=61), make_trades(200, symbols=SYMBOLS, seed=62)
    work.produce(first)
    untold = lag_of(work)
    assert figures(untold, (*RECORDS, *AGES, "committed_age_s")) == [None] * 5
    assert sum(one["end"] for one in untold["partitions"]) == 300
    assert all(figures(one, ("read", "next", *RECORDS, *AGES)) == [None] * 6 for one in busy(untold))
    people = work.command("lag").out
    assert "300" not in people
    assert people.splitlines()[1].split() == [work.topic, *"-----"]

    sink = work.start()
    wait_until(lambda: figures(lag_of(work), (*RECORDS, *AGES)) == [0, 0, 0.0, 0.0], "all to be read and committed")
    assert sink.terminate() == 0
    taken = lag_of(work)
    assert figures(taken, (*RECORDS, *AGES)) == [0, 0, 0.0, 0.0]
    assert 0 <= taken["committed_age_s"] < 60
    assert lag_of(work)["committed_age_s"] > taken["committed_age_s"]
    assert all(one["next"] == one["read"] == one["end"] for one in busy(taken))

    # What sinks told may be late, or gone: the table knows.
    told = {(work.topic, Partition(one["partition"])): (Offset(0), "") for one in taken["partitions"]}
    work.admin.write_group_signals(load_pipeline(work.folder / "pipeline.yaml").committed_group, told).result(
        PATIENCE_S
    )
    untold = lag_of(work)
    assert figures(untold, (*RECORDS, *AGES, "committed_age_s")) == [0, 0, 0.0, 0.0, None]

    work.produce(second)
    behind = lag_of(work)
    assert figures(behind, RECORDS) == [200, 200]
    assert 0 < behind["unread_age_s"] == behind["uncommitted_age_s"] < 60
    [topic] = behind["topics"]
    assert topic == {"topic": work.topic} | {name: behind[name] for name in topic if name != "topic"}
    assert {one["partition"]: one["unread"] for one in behind["partitions"]} == {
        one["partition"]: one["end"] - before["end"]
        for one, before in zip(behind["partitions"], taken["partitions"], strict=True)
    }
    assert max(one["unread_age_s"] for one in behind["partitions"]) == behind["unread_age_s"]

    [row] = work.command("lag").out.splitlines()[1:-1]
    assert row.split()[:2] == [work.topic, "200"]
    shown = work.command("lag", "--partitions").out.splitlines()
    assert [int(line.split()[1]) for line in shown[1:-1]] == [one["partition"] for one in busy(behind)]
    assert len(work.command("lag", "--all").out.splitlines()) == 2 + len(behind["partitions"])
    assert shown[-1].startswith(f"{len(behind['partitions'])} partitions, {len(busy(behind))} with records: unread 200")


@pytest.mark.kafka
def test_of_a_topic_that_is_gone_nothing_is_known_and_the_table_has_no_position_in_the_next(work: Recovered) -> None:
    work.produce(make_trades(100, symbols=SYMBOLS, seed=63))
    work.run_to_end()
    assert lag_of(work)["uncommitted"] == 0
    work.delete_topic()
    gone = lag_of(work)
    assert figures(gone, (*RECORDS, *AGES)) == [None] * 4
    assert gone["topics"] == [{"topic": work.topic, **dict.fromkeys((*RECORDS, *AGES, "committed_age_s"))}]
    work.admin.ensure_topics({work.topic: work.partitions})

    def empty() -> bool:
        answer = work.command("lag", "--json")  # 4 while the new partitions have no leader
        return answer.code == 0 and answer.document["uncommitted"] == 0

    wait_until(empty, "the topic to be there again")
    work.produce(make_trades(5, symbols=SYMBOLS, seed=64))
    assert figures(lag_of(work), ("uncommitted", "uncommitted_age_s")) == [None, None]


@pytest.mark.kafka
def test_what_levels_put_off_is_not_uncommitted_and_is_said_beside_it(work: Recovered) -> None:
    low, critical = SYMBOLS[:2]
    work.priorities = {low: "low", critical: "critical"}
    trades = make_trades(100, symbols=(low, critical), seed=65)
    work.set_level(2)
    sink = work.start()
    wait_until(lambda: sink.metric("k2_degradation_level") == 2, "the level")
    assert "put off" not in work.command("lag").out
    work.produce(trades)
    wait_until(lambda: lag_of(work)["owed"] and lag_of(work)["uncommitted"] == 0, "all to be committed or put off")
    owed = sum(trade["symbol"] == low for trade in trades)
    assert lag_of(work)["owed"] == owed
    assert f"beside that, levels have put off {owed} records" in work.command("lag").out


def test_a_folder_without_a_pipeline_is_one_line(tmp_path: Path) -> None:
    answer = k2("lag", "--dir", tmp_path / "none")
    assert (answer.code, answer.out, answer.err.count("\n")) == (3, "", 1)


def test_in_words_what_is_not_known_is_a_dash() -> None:
    assert in_words(Lag(None, 1_200, None, 3.04, None)) == (
        "unread -, the oldest - s old; uncommitted 1,200, the oldest 3.0 s old; last commit - s ago"
    )
