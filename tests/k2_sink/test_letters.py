"""The table `dlq` on a real Kafka and real tables: each place once, with its bytes; what is gone is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry
from pyiceberg.catalog import Catalog

from k2_cli.stack import ports
from k2_core.config import ServiceSettings
from k2_core.errors import KafkaUnavailableError, StateError
from k2_core.kafka import KafkaAdmin, client_config
from k2_core.letters import DLQ, LETTERS, READ_KEY, Letter, Place, Read, letter_rows
from k2_core.tables import ensure_table, load_table, open_catalog
from k2_core.topics import (
    DATASET_HEADER,
    DEAD_LETTER_PARTITIONS,
    DIGEST_HEADER,
    REASON_HEADER,
    ROW_HEADER,
    SOURCE_HEADER,
    dead_letter_topic,
)
from k2_core.types import Level, Offset, Partition, TopicId, TopicName
from k2_sink import letters as module
from k2_sink.batch import DeadLetter
from k2_sink.deadletters import DeadLetterProducer
from k2_sink.letters import Asked, Letters, Limits, new_rows, unread_of
from k2_sink.metrics import SinkMetrics
from k2_sink.projection import CATCH_UP_SHARE, Tables, Turns, write
from support.sink import PATIENCE_S, SinkWorkspace
from support.waiting import wait_until

UID = "uid"
EVERY_S = 60.0


@dataclass
class World:
    """A pipeline's dead-letter topic and its table, and those who keep it at a time of the test's own."""

    work: SinkWorkspace
    catalog: Catalog
    now_s: float = 0.0
    made: list[Letters] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.topic = dead_letter_topic(self.work.topic)
        self.producer = Producer(client_config(self.work.settings))
        self.client = AdminClient(client_config(self.work.settings))

    def send(self, offsets: range, topic_id: str = "id") -> dict[str, bytes]:
        """Write letters as a sink does, and return what the table must hold of them."""
        letters = DeadLetterProducer(self.work.settings, {self.work.topic: TopicId(topic_id)})
        sent = {f"log/{topic_id}/3/{number}": f"{topic_id} {number}".encode() for number in offsets}
        letters.send(
            [
                DeadLetter(self.work.topic, Partition(3), Offset(number), sent[f"log/{topic_id}/3/{number}"], "bad", "")
                for number in offsets
            ]
        )
        letters.flush()
        return sent

    def produce(self, value: bytes | None, headers: Mapping[str, str | bytes | None]) -> None:
        """Write any letter."""
        self.producer.produce(self.topic, value, headers=list(headers.items()))
        assert self.producer.flush(PATIENCE_S) == 0

    def letters(
        self, limits: Limits | None = None, catalog: Catalog | None = None, admin: KafkaAdmin | None = None
    ) -> Letters:
        """Return one more that keeps the table."""
        self.metrics = SinkMetrics(CollectorRegistry())
        tables = Tables(catalog or self.catalog, self.work.namespace, UID)
        asked = Asked(admin or self.work.admin, [self.work.topic], "k2-test")
        made = Letters(tables, asked, self.metrics, Turns(EVERY_S, lambda: self.now_s), limits or Limits())
        self.made.append(made)
        return made

    def turn(self, letters: Letters, after_s: float = EVERY_S) -> int:
        """Let a whole turn pass, and return how many rows it brought."""
        self.now_s += after_s
        rows = letters.step(Level.NORMAL)

        def ended() -> bool:
            nonlocal rows
            rows += letters.step(Level.NORMAL)
            return not busy(letters)

        wait_until(ended, "the turn to end")
        return rows

    def rows(self) -> list[dict[str, Any]]:
        """Return the whole table."""
        table = load_table(self.catalog, self.work.namespace, DLQ)
        return [] if table is None else list(table.scan().to_arrow().cast(LETTERS).to_pylist())

    def held(self) -> dict[str, bytes | None]:
        """Return the bytes by place; a place that stands twice fails the test."""
        found = {row["letter_id"]: row["value"] for row in self.rows()}
        assert len(found) == len(self.rows())
        return found

    def read(self) -> int:
        """Return up to where the table says that the topic was read."""
        table = load_table(self.catalog, self.work.namespace, DLQ)
        assert table is not None
        [(topic_id, _)] = self.work.admin.describe_topics([self.topic]).values()
        return Read.of(table.properties).positions.get((topic_id, Partition(0)), Offset(0))

    def remove(self, before: int) -> None:
        """Remove letters, as retention does."""
        where = TopicPartition(self.topic, 0, before)
        self.client.delete_records([where])[where].result(PATIENCE_S)


def busy(letters: Letters) -> bool:
    return letters._work is not None or letters._bounds is not None


@pytest.fixture
def world(work: SinkWorkspace) -> Iterator[World]:
    with closing(open_catalog(work.settings)) as catalog:
        made = World(work, catalog)
        yield made
        for letters in made.made:
            letters.close()


pytestmark = pytest.mark.kafka


def test_letters_of_all_kinds_are_there_with_their_bytes(world: World) -> None:
    expected: dict[str, bytes | None] = {**world.send(range(5))}
    line = {
        SOURCE_HEADER: "asx",
        DATASET_HEADER: "day",
        DIGEST_HEADER: "ab",
        ROW_HEADER: "4",
        REASON_HEADER: "no_price",
    }
    world.produce(b"a line", line)
    world.produce(b"\xff{", {SOURCE_HEADER: "binance", REASON_HEADER: "malformed_json"})
    world.produce(None, {})
    [(topic_id, _)] = world.work.admin.describe_topics([world.topic]).values()
    expected |= {"file/day/ab/4": b"a line", f"letter/{topic_id}/0/6": b"\xff{", f"letter/{topic_id}/0/7": None}
    letters = world.letters()
    assert world.turn(letters) == 8
    assert world.held() == expected
    assert {row["letter_offset"]: row["reason"] for row in world.rows()} == dict(
        enumerate(["bad"] * 5 + ["no_price", "malformed_json", None])
    )
    assert world.read() == 8
    assert world.metrics.projected.labels("dlq")._value.get() == 8

    table = load_table(world.catalog, world.work.namespace, DLQ)
    assert table is not None
    assert world.turn(letters) == 0  # nothing new
    again = load_table(world.catalog, world.work.namespace, DLQ)
    assert again is not None
    assert again.metadata_location == table.metadata_location


def test_copies_are_told_by_where_the_bytes_stood(world: World) -> None:
    letters = world.letters()
    expected = world.send(range(10)) | world.send(range(5, 12))  # as after a crash
    assert world.turn(letters) == 12
    assert world.held() == expected
    expected |= world.send(range(8, 15))
    assert world.turn(letters) == 3
    assert world.held() == expected
    world.send(range(15))
    assert world.turn(letters) == 0
    assert world.held() == expected
    assert world.read() == 39
    expected |= world.send(range(4), "another topic of that name")
    assert world.turn(world.letters()) == 4
    assert world.held() == expected


def test_copies_of_lines_are_told_likewise(world: World) -> None:
    line = {DATASET_HEADER: "day", DIGEST_HEADER: "ab"}
    for row in (1, 2, 2):
        world.produce(b"line %d" % row, {**line, ROW_HEADER: str(row)})
    assert world.turn(world.letters()) == 2
    world.produce(b"line 2", {**line, ROW_HEADER: "2"})
    world.produce(b"line 2", {**line, DIGEST_HEADER: "cd", ROW_HEADER: "2"})
    assert world.turn(world.letters()) == 1
    assert world.held() == {"file/day/ab/1": b"line 1", "file/day/ab/2": b"line 2", "file/day/cd/2": b"line 2"}


def test_what_was_removed_unread_is_said(world: World) -> None:
    letters = world.letters()
    expected: dict[str, bytes | None] = {**world.send(range(4))}
    assert world.turn(letters) == 4
    world.send(range(4, 10))
    world.remove(7)
    expected |= {f"log/id/3/{number}": b"id %d" % number for number in range(7, 10)}
    assert world.turn(letters) == 4
    gaps = [row for row in world.rows() if row["reason"] == "removed_unread"]
    assert [(row["letter_offset"], row["letter_end"], row["value"]) for row in gaps] == [(4, 7, None)]
    world.send(range(10, 13))
    world.remove(13)  # all that there is
    assert world.turn(letters) == 1
    assert world.turn(letters) == 0
    gaps = [row for row in world.rows() if row["reason"] == "removed_unread"]
    assert sorted((row["letter_offset"], row["letter_end"]) for row in gaps) == [(4, 7), (10, 13)]
    assert {key: value for key, value in world.held().items() if key.startswith("log/")} == expected
    assert world.read() == 13


def test_a_topic_that_was_made_again_is_read_from_its_beginning(world: World) -> None:
    expected = world.send(range(4))
    assert world.turn(world.letters()) == 4
    world.client.delete_topics([world.topic])[world.topic].result(PATIENCE_S)
    wait_until(lambda: not world.work.admin.describe_topics([world.topic]), "the topic to be gone")
    letters = world.letters()
    assert world.turn(letters) == 0
    world.work.admin.ensure_topics({world.topic: DEAD_LETTER_PARTITIONS})
    expected |= world.send(range(2, 6))
    assert world.turn(letters) == 2
    assert world.held() == expected
    assert world.read() == 4


@pytest.mark.parametrize("limits", [Limits(letters=4), Limits(size=20)], ids=["letters", "bytes"])
def test_more_than_a_commit_takes_is_caught_up_with(world: World, limits: Limits) -> None:
    expected = world.send(range(10))
    letters = world.letters(limits)
    steps = [world.turn(letters)]
    while steps[-1]:
        steps.append(world.turn(letters, EVERY_S * CATCH_UP_SHARE))
    assert sum(steps) == 10
    assert len(steps) > 2 or limits.letters > 4  # the size is looked at once something has come
    assert world.held() == expected


@pytest.mark.parametrize("level", [level for level in Level if level > Level.NORMAL])
def test_a_level_puts_it_off_at_any_moment(world: World, level: Level) -> None:
    expected = world.send(range(5))
    letters = world.letters()
    world.now_s += EVERY_S
    assert letters.step(level) == 0
    assert not busy(letters)
    assert letters.step(Level.NORMAL) == 0
    assert letters._bounds is not None
    assert letters.step(level) == 0
    assert not busy(letters)
    world.now_s += EVERY_S
    wait_until(lambda: letters.step(Level.NORMAL) or letters._work is not None, "the reading to begin")
    assert letters.step(level) == 0
    assert not busy(letters)
    assert world.held() == {}
    assert world.turn(letters) == 5
    assert world.held() == expected


def test_offsets_without_a_letter_are_passed(world: World) -> None:
    """The last offset is the marker of a transaction."""
    producer = Producer(client_config(world.work.settings, transactional_id=world.topic))
    producer.init_transactions(PATIENCE_S)
    producer.begin_transaction()
    producer.produce(world.topic, b"in a transaction")
    producer.commit_transaction(PATIENCE_S)
    ends = world.work.admin.stable_ends
    wait_until(lambda: ends(world.topic, [Partition(0)]) == {0: 2}, "the marker to be written")
    assert world.turn(world.letters()) == 1
    assert world.read() == 2


def test_of_two_that_read_at_once_one_writes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = world.send(range(6))
    ensure_table(world.catalog, world.work.namespace, DLQ, UID)
    with closing(open_catalog(world.work.settings)) as other:
        late, first, commit = world.letters(catalog=other), world.letters(), other.commit_table

        def commit_late(*arguments: Any) -> Any:
            monkeypatch.setattr(other, "commit_table", commit)
            assert world.turn(first) == 6
            return commit(*arguments)

        monkeypatch.setattr(other, "commit_table", commit_late)
        assert world.turn(late) == 0
    assert world.held() == expected
    assert world.read() == 6


def test_letters_that_do_not_come_are_no_reason_to_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka says that there are letters, and does not hand them out."""
    expected = world.send(range(3))
    letters = world.letters()
    with monkeypatch.context() as patched:
        patched.setattr(module.Reading, "read", lambda *_: 0)
        world.now_s += EVERY_S
        wait_until(lambda: letters.step(Level.NORMAL) or letters._work is not None, "the reading to begin")
        assert letters.step(Level.NORMAL) == 0
        world.now_s += module.PATIENCE_S + 1
        with pytest.raises(KafkaUnavailableError, match="dead letters: found none in 30 s"):
            letters.step(Level.NORMAL)
    assert not busy(letters)
    assert world.turn(letters) == 3
    assert world.held() == expected


def test_letters_that_are_removed_while_they_are_read_are_looked_for_again(world: World) -> None:
    world.send(range(6))
    world.remove(4)
    [(place, end)] = Asked(world.work.admin, [world.work.topic], "k2-test").bounds().items()
    assert (place.offset, end) == (4, 6)
    gone = Place(place.topic, place.topic_id, place.partition, Offset(1))
    reading = Asked(world.work.admin, [world.work.topic], "k2-test").open({gone: end})
    with closing(reading), pytest.raises(KafkaUnavailableError, match=r"partition 0: found .*, expected letters"):
        wait_until(lambda: reading.read(10, 0.1), "Kafka to say so")


def test_another_pipelines_table_is_not_written_to(world: World) -> None:
    ensure_table(world.catalog, world.work.namespace, DLQ, "other")
    world.send(range(3))
    with pytest.raises(StateError, match="table dlq: found it to be of pipeline other, expected uid"):
        world.turn(world.letters())
    assert world.rows() == []


def test_a_property_that_is_none_of_ours_is_refused(world: World) -> None:
    with ensure_table(world.catalog, world.work.namespace, DLQ, UID).transaction() as transaction:
        transaction.set_properties({READ_KEY: "yes"})
    world.send(range(3))
    with pytest.raises(StateError, match=r"k2\.read: found 'yes'"):
        world.turn(world.letters())


def test_a_kafka_that_is_away_is_said_and_nothing_waits_for_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2_core.kafka.ADMIN_TIMEOUT_S", 0.5)
    away = ServiceSettings(kafka_bootstrap_servers=f"127.0.0.1:{ports.find_free('no broker')}")
    letters = world.letters(admin=KafkaAdmin(away))
    world.now_s += EVERY_S
    assert letters.step(Level.NORMAL) == 0
    assert letters._bounds is not None
    assert not letters._bounds.done()
    with pytest.raises(KafkaUnavailableError, match="expected an answer from Kafka"):
        wait_until(lambda: letters.step(Level.NORMAL), "the answer that there is none")
    assert not busy(letters)


class TestUnread:
    """What is to be read, by what was read and what there is."""

    AT = (TopicId("id"), Partition(0))

    def place(self, offset: int) -> Place:
        return Place(TopicName("t.dlq"), *self.AT, Offset(offset))

    @pytest.mark.parametrize(
        ("read", "start", "end", "unread", "removed"),
        [
            pytest.param(None, 0, 0, None, None, id="nothing-yet"),
            pytest.param(None, 0, 5, 0, None, id="from-the-beginning"),
            pytest.param(None, 3, 5, 3, 0, id="a-beginning-that-is-gone"),
            pytest.param(5, 0, 5, None, None, id="nothing-new"),
            pytest.param(5, 5, 5, None, None, id="nothing-left-and-nothing-new"),
            pytest.param(5, 3, 9, 5, None, id="more"),
            pytest.param(5, 7, 9, 7, 5, id="some-gone"),
            pytest.param(5, 9, 9, 9, 5, id="all-gone"),
        ],
    )
    def test_it_begins_where_reading_stopped(
        self, read: int | None, start: int, end: int, unread: int | None, removed: int | None
    ) -> None:
        known = Read({self.AT: Offset(read)} if read is not None else {})
        found = unread_of(known, {self.place(start): Offset(end)})
        assert found == (
            {self.place(unread): end} if unread is not None else {},
            {self.place(removed): start} if removed is not None else {},
        )

    def test_letters_that_the_brokers_lost_are_refused(self) -> None:
        with pytest.raises(StateError, match="found an end of 4, expected at least 5 where it was read to"):
            unread_of(Read({self.AT: Offset(5)}), {self.place(0): Offset(4)})


def test_rows_of_other_places_are_not_taken_for_copies(world: World) -> None:
    """The bounds of a look-up take in more than the places that are looked for."""

    def at(offset: int, topic_id: str = "id") -> Letter:
        place = Place(TopicName("t.dlq"), TopicId("dlq"), Partition(0), Offset(offset))
        headers = {"k2.topic_id": topic_id, "k2.partition": "0", "k2.offset": str(offset)}
        return Letter(place, headers, b"", 0)

    tables = Tables(world.catalog, world.work.namespace, UID)
    assert write(tables.projection(DLQ), letter_rows([at(2), at(4), at(6), at(3, "other")]), {})
    found = new_rows(tables.projection(DLQ), letter_rows([at(1), at(3), at(4), at(7), at(2, "other")]))
    assert found.column("letter_id").to_pylist() == ["log/id/0/1", "log/id/0/3", "log/id/0/7", "log/other/0/2"]
