"""The history of the ledger: its rows add up to what is open, in every column, whatever happened to the table."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pyiceberg.io.pyarrow import schema_to_pyarrow

from k2_core.errors import StateError
from k2_core.ledger_history import CHANGES, LEDGER, TOLD_KEY, Commit, Told, tell
from k2_core.state import CommitState, LedgerEntry, Loss, PartitionState, TopicState, owed_records
from k2_core.types import Offset, Partition, TopicId, TopicName
from support.ledger import adds_up_to, open_ledger

TOPIC = TopicName("market.crypto.trades.binance")
TABLE = "one table"
SINCE_MS = 1_800_000_000_000


def entry(start: int, end: int, records: int, **more: Any) -> LedgerEntry:
    given: dict[str, Any] = {"symbols": ("A", "B"), "level": 2, "reason": "level 2 defers low", "since_ms": SINCE_MS}
    place = (TOPIC, Partition(more.pop("partition", 0)), Offset(start), Offset(end))
    return LedgerEntry(*place, records=records, **(given | more))


def state(*ledger: LedgerEntry, losses: Sequence[Loss] = (), topic_id: str = "id") -> CommitState:
    topics = {TOPIC: TopicState(TopicId(topic_id), {Partition(0): PartitionState(Offset(900))})}
    return CommitState("cluster", topics, ledger, losses=tuple(losses))


def commits(*states: CommitState | None, first: int = 1, recovery: str | None = None) -> list[Commit]:
    """Return a table's commits, the last of them by a recovery if one is named."""
    made = [
        Commit(number, SINCE_MS + number, one.dump() if one is not None else None)
        for number, one in enumerate(states, start=first)
    ]
    return [*made[:-1], replace(made[-1], recovery=recovery)]


def told(made: Sequence[Commit], before: Told | None = None, table: str = TABLE) -> tuple[pa.Table, Told]:
    rows, reached, more = tell(before or Told(), table, made, 1_000)
    assert rows.schema == CHANGES
    assert not more
    return rows, reached


def said(rows: pa.Table, *columns: str) -> list[tuple[Any, ...]]:
    """Return some columns of what is said, the one that only says what is unseen left out."""
    return [tuple(row[name] for name in columns) for row in rows.to_pylist() if row["account"] is not None]


def test_each_change_is_said_for_what_it_is() -> None:
    ledger = (entry(0, 10, 4), entry(0, 10, 4, partition=1))
    made = commits(
        state(),
        state(*ledger),  # a level defers
        state(entry(0, 30, 9), ledger[1]),  # and goes on in one partition
        state(entry(20, 30, 3), ledger[1]),  # a drain pays a part
        state(ledger[1]),  # and the rest
    )
    rows, reached = told(made)
    assert said(rows, "sequence_number", "event", "change", "kafka_partition", "from_offset", "owed_records") == [
        (2, "deferred", 1, 0, 0, 4),
        (2, "deferred", 1, 1, 0, 4),
        (3, "extended", -1, 0, 0, -4),
        (3, "extended", 1, 0, 0, 9),
        (4, "paid", -1, 0, 0, -9),
        (4, "paid", 1, 0, 20, 3),
        (5, "paid", -1, 0, 20, -3),
    ]
    assert adds_up_to(rows, state(ledger[1]))
    assert reached == Told(TABLE, 5, state(ledger[1]))
    assert {row["account"] for row in rows.to_pylist()} == {"owed"}


def test_a_row_says_all_of_an_entry() -> None:
    one = entry(3, 9, 5, oldest_ms=SINCE_MS - 7, raw_file="raw", symbols=("X", "Y,Z"))
    rows, _ = told(commits(state(one)))
    assert rows.to_pylist() == [
        {
            "event": "deferred",
            "account": "owed",
            "change": 1,
            "topic": TOPIC,
            "topic_id": "id",
            "kafka_partition": 0,
            "from_offset": 3,
            "to_offset": 9,
            "symbols": ["X", "Y,Z"],
            "level": 2,
            "reason": "level 2 defers low",
            "owed_records": 5,
            "since": datetime(2027, 1, 15, 8, tzinfo=UTC),
            "oldest": datetime(2027, 1, 15, 7, 59, 59, 993_000, tzinfo=UTC),
            "raw_file": "raw",
            "from_sequence_number": 1,
            "sequence_number": 1,
            "committed_at": datetime(2027, 1, 15, 8, 0, 0, 1_000, tzinfo=UTC),
        }
    ]


@pytest.mark.parametrize(
    ("command", "event"), [("adopt", "adopted"), ("adopt-topic", "lost"), ("rollback", "rolled_back")]
)
def test_what_a_person_changed_is_said_so(command: str, event: str) -> None:
    before, after = state(entry(0, 10, 4)), state(entry(0, 30, 9), entry(50, 60, 1))
    rows, _ = told(commits(before, after, recovery=command))
    assert [row["event"] for row in rows.to_pylist()] == ["deferred", event, event, event]
    assert adds_up_to(rows, after)


def test_a_loss_is_a_row_beside_what_it_takes_off_the_ledger() -> None:
    losses = (
        Loss(TOPIC, TopicId("id"), Partition(0), Offset(0), Offset(10), "by mistake: 4 deferred records"),
        Loss(TOPIC, TopicId("id"), Partition(0), Offset(900), None, "by mistake"),
    )
    after = state(losses=losses, topic_id="another")
    rows, _ = told(commits(state(entry(0, 10, 4)), after, recovery="adopt-topic"))
    columns = ("account", "event", "change", "topic_id", "from_offset", "to_offset", "owed_records", "symbols")
    assert said(rows, *columns)[1:] == [
        ("owed", "lost", -1, "id", 0, 10, -4, ["A", "B"]),
        ("lost", "lost", 1, "id", 0, 10, 0, None),
        ("lost", "lost", 1, "id", 900, None, 0, None),
    ]
    assert adds_up_to(rows, after)


def test_other_tools_commits_change_nothing() -> None:
    one = state(entry(0, 10, 4))
    rows, reached = told(commits(one, None, one))
    assert said(rows, "event", "sequence_number") == [("deferred", 1)]
    assert reached.sequence_number == 3


def test_what_expired_unseen_is_said_and_its_sum_is_exact() -> None:
    first, last = state(entry(0, 10, 4)), state(entry(5, 10, 1), entry(40, 50, 2))
    rows, reached = told([*commits(first), *commits(last, first=5)])
    found = rows.to_pylist()
    assert [(row["event"], row["change"], row["from_sequence_number"]) for row in found] == [
        ("deferred", 1, 1),
        ("unseen", 0, 2),
        ("unseen", -1, 2),
        ("unseen", 1, 2),
        ("unseen", 1, 2),
    ]
    assert {row["sequence_number"] for row in found[1:]} == {5}
    assert adds_up_to(rows, last)
    assert reached == Told(TABLE, 5, last)


def test_it_is_said_where_nothing_changed_in_sum_and_of_the_first_commits_too() -> None:
    rows, _ = told(commits(state(), first=3))
    assert [(row["event"], row["account"], row["from_sequence_number"]) for row in rows.to_pylist()] == [
        ("unseen", None, 1)
    ]


def test_commits_that_expired_after_they_were_told_are_not_missed() -> None:
    rows, before = told(commits(state(entry(0, 10, 4)), state(entry(0, 20, 6))))
    more, reached = told(commits(state(entry(0, 30, 7)), first=3), before)
    assert said(more, "event", "change") == [("extended", -1), ("extended", 1)]
    assert adds_up_to(pa.concat_tables([rows, more]), state(entry(0, 30, 7)))
    assert told(commits(state(entry(0, 30, 7)), first=3), reached)[1] is reached


def test_a_table_that_was_made_again_owes_what_it_owes() -> None:
    rows, before = told(commits(state(entry(0, 10, 4)), state(entry(0, 20, 6))))
    assert told([], before, "another table")[1] is before
    more, reached = told(commits(state(), state(entry(3, 4, 1))), before, "another table")
    assert [(row["event"], row["change"]) for row in more.to_pylist()] == [
        ("unseen", 0),
        ("unseen", -1),
        ("deferred", 1),
    ]
    assert adds_up_to(pa.concat_tables([rows, more]), state(entry(3, 4, 1)))
    assert (reached.table, reached.sequence_number) == ("another table", 2)


def test_a_time_that_no_calendar_has_is_none() -> None:
    rows, _ = told(commits(state(entry(0, 10, 4, oldest_ms=2**62))))
    assert said(rows, "oldest") == [(None,)]


@pytest.mark.parametrize("seed", range(20))
def test_any_history_adds_up_in_any_portions(seed: int) -> None:
    """Entries come, grow, shrink, go, and go back; some commits expire, and are told in portions of a few."""
    chance = random.Random(seed)
    states: list[CommitState] = [state()]
    for _ in range(60):
        ledger = list(states[-1].open_ledger)
        what = chance.random()
        if what < 0.3 or not ledger:
            start = chance.randrange(1_000)
            ledger.append(entry(start, start + 10, chance.randrange(1, 9), partition=chance.randrange(3)))
        elif what < 0.5:
            ledger[-1] = replace(ledger[-1], end=Offset(ledger[-1].end + 5), records=ledger[-1].records + 2)
        elif what < 0.7:
            ledger[0] = replace(ledger[0], start=Offset(ledger[0].start + 1), records=ledger[0].records + 1)
        elif what < 0.9:
            ledger.pop(chance.randrange(len(ledger)))
        else:
            ledger = list(chance.choice(states).open_ledger)
        states.append(state(*ledger))
    listed = [one for one in commits(*states) if chance.random() < 0.9 or one.sequence_number == len(states)]
    rows, reached, more = CHANGES.empty_table(), Told(), True
    while more:
        portion, reached, more = tell(Told.of({TOLD_KEY: reached.dump()}), TABLE, listed, 7)
        rows = pa.concat_tables([rows, portion])
        assert open_ledger(rows) == Counter(reached.state.open_ledger)
    assert adds_up_to(rows, states[-1])
    assert owed_records(states[-1].open_ledger) == sum(rows.column("owed_records").to_pylist())


def test_the_row_is_the_tables() -> None:
    theirs = schema_to_pyarrow(LEDGER.iceberg_schema)
    assert [(field.name, field.nullable) for field in theirs] == [(field.name, field.nullable) for field in CHANGES]
    assert all(field.doc for field in LEDGER.iceberg_schema.fields)


class TestTold:
    def test_it_is_kept_as_text(self) -> None:
        one = Told(TABLE, 12, state(entry(0, 10, 4)))
        assert Told.of({TOLD_KEY: one.dump()}) == one

    def test_at_first_nothing_is(self) -> None:
        assert Told.of({}) == Told(None, 0, CommitState(""))

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            '{"format":2,"table":"one","sequence_number":1,"state":"{}"}',
            '{"format":1,"table":"one","sequence_number":1}',
            '{"format":1,"table":"one","sequence_number":1,"state":"{}"}',
        ],
    )
    def test_what_is_none_of_ours_is_refused(self, text: str) -> None:
        with pytest.raises(StateError, match=r"k2.told: found .*, expected format 1 with table, sequence_number"):
            Told.of({TOLD_KEY: text})


def test_the_sql_of_the_documentation_gives_the_open_ledger() -> None:
    """As an engine runs it, on a history in which entries grew, shrank and went."""
    last = state(entry(20, 30, 3), entry(0, 10, 4, partition=1, symbols=("C",)))
    rows, _ = told(commits(state(entry(0, 10, 4)), state(entry(0, 30, 9)), state(entry(20, 30, 3)), last))
    document = (Path(__file__).parents[2] / "docs/tables.md").read_text()
    open_now, by_event = re.findall(r"```sql\n(SELECT[^`]*market\.ledger[^`]*)```", document)
    with duckdb.connect() as connection:
        connection.register("told", rows)
        connection.execute("CREATE SCHEMA market; CREATE TABLE market.ledger AS SELECT * FROM told")
        assert connection.execute(open_now).fetchall() == [
            (one.topic, one.partition, one.start, one.end, list(one.symbols), one.level, one.records)
            for one in last.open_ledger
        ]
        found = [(event, records) for event, records, *_ in connection.execute(by_event).fetchall()]
    assert found == [("deferred", 8), ("extended", 5), ("paid", -6)]
