"""Where a drain reads: raw files first, the log if they fail, and nothing is dropped if both do. On a real Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry
from pyiceberg.io.pyarrow import PyArrowFileIO

from k2_cli.stack.kafka import LocalKafka
from k2_core.errors import RawFileError, StateError
from k2_core.kafka import KafkaAdmin
from k2_core.raw_files import RawFiles, Section, raw_rows
from k2_core.state import LedgerEntry
from k2_core.types import Level, Offset, Partition, TopicName
from k2_sink.drain import STUCK_REST_S, Drain, Limits, RangeReader, Taken
from k2_sink.metrics import SinkMetrics
from k2_sink.owed import OwedReader
from k2_sink.settings import SinkSettings
from support.kafka import TopicFactory
from support.waiting import wait_until

pytestmark = pytest.mark.kafka
KEYS = (b"A", b"B", b"C")
COUNT = 90


@dataclass
class Place:
    """A topic of two partitions of 90 records, keys A, B and C in turn, and raw files of A and B beside it."""

    kafka: LocalKafka
    topic: TopicName
    files: RawFiles
    readers: list[OwedReader] = field(default_factory=list)
    logs_opened: int = 0

    def __post_init__(self) -> None:
        self.settings = SinkSettings.model_validate({"kafka_bootstrap_servers": self.kafka.bootstrap_servers})
        self.admin = KafkaAdmin(self.settings)
        self.metrics = SinkMetrics(CollectorRegistry())
        config = {"bootstrap.servers": self.kafka.bootstrap_servers, "enable.idempotence": True}
        producer = Producer(config)
        for number in range(2 * COUNT):
            key = KEYS[number // 2 % 3]
            producer.produce(self.topic, value=b"%d" % (number // 2), key=key, partition=number % 2)
        assert producer.flush(30) == 0

    def write(self, start: int, end: int, previous: str | None = None, partition: int = 0) -> str:
        """Write a raw file of [start, end) that holds what waited there."""
        offsets = [offset for offset in range(start, end) if offset % 3 < 2]
        rows = raw_rows(
            partition=[partition] * len(offsets),
            offset=offsets,
            timestamp_ms=[1_000 + offset for offset in offsets],
            key=[KEYS[offset % 3] for offset in offsets],
            value=[b"%d" % offset for offset in offsets],
        )
        section = Section(self.topic, Partition(partition), Offset(start), Offset(end), len(offsets), previous)
        return self.files.write({self.topic: rows}, [section], 1_764_088_369_000).name

    def entry(self, start: int, end: int, raw_file: str | None, partition: int = 0) -> LedgerEntry:
        owed = sum(offset % 3 < 2 for offset in range(start, end))
        at = (self.topic, Partition(partition), Offset(start), Offset(end))
        return LedgerEntry(*at, ("A", "B"), 3, "load", owed, raw_file=raw_file)

    def met(self) -> dict[str, float]:
        """Return how many ranges' raw files could not be used, by what was found."""
        [family] = self.metrics.raw_unusable.collect()
        return {one.labels["found"]: one.value for one in family.samples if one.name.endswith("_total")}

    def path(self, name: str) -> Path:
        return Path(self.files.path(name).removeprefix("file://"))

    def trim(self, upto: int) -> None:
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap_servers})
        cut = TopicPartition(self.topic, 0, upto)
        admin.delete_records([cut])[cut].result(30)

    def reader(self) -> OwedReader:
        def open_log() -> RangeReader:
            self.logs_opened += 1
            return RangeReader(self.settings, "group")

        def log_start(at: tuple[TopicName, Partition]) -> Offset:
            return self.admin.log_starts(at[0], [at[1]])[at[1]]

        self.readers.append(OwedReader(open_log, self.files, log_start, self.metrics))
        return self.readers[-1]


@pytest.fixture
def place(kafka: LocalKafka, topic_factory: TopicFactory, tmp_path: Path) -> Iterator[Place]:
    files = RawFiles(PyArrowFileIO(), f"file://{tmp_path}/trades")
    found = Place(kafka, TopicName(topic_factory(partitions=2)), files)
    yield found
    for reader in found.readers:
        reader.close()


def values(taken: Taken) -> list[int]:
    return [int(value or b"") for chunk in taken.chunks for value in chunk.values]


def offsets(taken: Taken) -> list[int]:
    return [offset for chunk in taken.chunks for offset in chunk.offsets.tolist()]


def waiting(start: int, end: int) -> list[int]:
    return [offset for offset in range(start, end) if offset % 3 < 2]


def read_all(reader: OwedReader, taken: Taken, at_once: int = 7) -> int:
    """Read an entry to its end, and return how many records the log made it pass over."""
    passed_over = 0
    reader.begin(taken)

    def done() -> bool:
        nonlocal passed_over
        passed_over += reader.read(taken, at_once)[1]
        return taken.done

    wait_until(done, "all of the entry")
    return passed_over


def test_raw_files_are_read_in_the_order_of_the_log_and_the_log_is_left_alone(place: Place) -> None:
    name = place.write(60, 80, place.write(30, 60, place.write(0, 30)))
    place.trim(COUNT)
    taken = Taken(place.entry(10, 85, name), Offset(10))
    taken.entry = replace(taken.entry, records=len(waiting(10, 80)))  # nothing waited from 80 on
    read_all(place.reader(), taken)
    assert values(taken) == offsets(taken) == waiting(10, 80)
    assert {(chunk.topic, *set(chunk.partitions.tolist())) for chunk in taken.chunks} == {(place.topic, 0)}
    assert (taken.end, taken.oldest_ms) == (85, 1_079)
    assert taken.paid().left() is None
    assert place.logs_opened == 0


def test_what_is_paid_in_part_is_read_on_from_there(place: Place) -> None:
    name = place.write(30, 60, place.write(0, 30))
    entry, reader = place.entry(0, 60, name), place.reader()
    first = Taken(entry, entry.start)
    reader.begin(first)
    wait_until(lambda: reader.read(first, 10) and first.records >= 25, "some of it")
    left = first.paid().left()
    assert left is not None
    second = Taken(left, left.start)
    read_all(reader, second)
    assert values(first) + values(second) == waiting(0, 60)


def test_what_grew_meanwhile_is_read_on_through_the_newer_file(place: Place) -> None:
    older = place.write(0, 30)
    taken, reader = Taken(place.entry(0, 30, older), Offset(0)), place.reader()
    read_all(reader, taken)
    taken.entry = place.entry(0, 60, place.write(30, 60, older))
    read_all(reader, taken)
    assert values(taken) == waiting(0, 60)


def test_an_entry_without_a_raw_file_is_read_from_the_log(place: Place) -> None:
    taken = Taken(place.entry(0, 60, None), Offset(0))
    assert read_all(place.reader(), taken) > 0
    assert values(taken) == waiting(0, 60)
    assert place.logs_opened == 1


@pytest.mark.parametrize("wrong", ["gone", "changed", "first gone", "too few"])
def test_a_raw_file_that_fails_is_replaced_by_the_log(
    place: Place, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = place.write(0, 30)
    second = place.write(30, 60, first)
    entry = place.entry(0, 60, second)
    match wrong:
        case "gone":
            place.path(second).unlink()
        case "changed":
            content = place.path(first).read_bytes()
            place.path(first).write_bytes(bytes([content[0] ^ 1]) + content[1:])
        case "first gone":
            place.path(first).unlink()
        case _:
            shorter = place.write(30, 57, first)
            entry = replace(entry, raw_file=shorter)
    taken = Taken(entry, entry.start)
    read_all(place.reader(), taken)
    assert values(taken) == waiting(0, 60)
    assert taken.paid().left() is None
    assert "the log is read instead" in caplog.text
    assert place.met() == ({"missing": 1, "damaged": 0} if "gone" in wrong else {"missing": 0, "damaged": 1})


def test_without_both_the_error_names_file_range_and_what_is_owed(place: Place) -> None:
    name = place.write(0, 60)
    place.path(name).unlink()
    place.trim(30)
    taken, reader = Taken(place.entry(0, 60, name), Offset(0)), place.reader()
    reader.begin(taken)
    with pytest.raises(
        RawFileError,
        match=rf"raw file .*{name}: found none.*; found the log of {place.topic} partition 0 from offset 30, expected "
        r"it from 0: put the file back, and the 40 records come in",
    ):
        reader.read(taken, 10)


def test_a_log_that_goes_while_it_stands_in_is_no_reason_to_end(place: Place) -> None:
    name = place.write(0, 60)
    place.path(name).unlink()
    place.trim(COUNT)
    taken = Taken(place.entry(0, 60, name), Offset(0))
    reader = OwedReader(lambda: RangeReader(place.settings, "group"), place.files, lambda _: Offset(0), place.metrics)
    place.readers.append(reader)
    reader.begin(taken)
    assert reader.read(taken, 10) == (0, 0)  # it has fallen back on what the log had a moment ago
    with pytest.raises(RawFileError, match=rf"{name}: found none.*no longer holds"):
        wait_until(lambda: reader.read(taken, 10) and taken.done, "the refusal")


def test_a_log_that_was_the_only_home_and_is_gone_forbids_going_on(place: Place) -> None:
    place.trim(30)
    taken, reader = Taken(place.entry(0, 60, None), Offset(0)), place.reader()
    reader.begin(taken)
    with pytest.raises(StateError, match="no longer holds"):
        wait_until(lambda: reader.read(taken, 10) and taken.done, "the refusal")


def test_what_nothing_has_is_put_aside_and_the_rest_comes_in(place: Place) -> None:
    now = [0.0]
    name = place.write(0, 60)
    content = place.path(name).read_bytes()
    place.path(name).unlink()
    place.trim(COUNT)
    stuck, other = place.entry(0, 60, name), place.entry(0, 30, place.write(0, 30, partition=1), partition=1)
    drain = Drain(place.reader, Limits(1e9, 1_000, {}), clock=lambda: now[0], utc_s=lambda: 1_000.0)

    def brought(owed: list[LedgerEntry]) -> Callable[[], bool]:
        def enough() -> bool:
            found[:] = drain.step(owed, Level.NORMAL, 3_600)
            return bool(found)

        return enough

    found: list[Taken] = []
    assert drain.trouble is None
    now[0] = 1.0
    wait_until(brought([stuck, other]), "the rest")
    assert [one.entry for one in found] == [other]
    assert values(found[0]) == waiting(0, 30)
    drain.drop()
    assert name in (drain.trouble or "")
    assert drain.due([stuck], Level.NORMAL) == []
    assert drain.step([stuck], Level.NORMAL, 3_600) == []
    assert name in (drain.trouble or "")
    assert (drain.stuck, place.met()["missing"]) == (1, 1)
    place.path(name).write_bytes(content)
    now[0] += STUCK_REST_S
    assert drain.due([stuck], Level.NORMAL) == [stuck]
    wait_until(brought([stuck]), "what was put back")
    assert values(found[0]) == waiting(0, 60)
    drain.drop()
    assert drain.step([], Level.NORMAL, 3_600) == []
    assert (drain.trouble, drain.stuck) == (None, 0)
    drain.close()
