"""A pipeline whose table is damaged and recovered, for tests of `k2 adopt`, `k2 adopt-topic` and `k2 rollback`."""

from __future__ import annotations

from functools import partial
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from k2_core.state import CommitState
from k2_core.types import Partition
from support.cli import Answer, k2
from support.lake import by_message_id, committed_state, records_of, table_rows, trades_table
from support.records import Record
from support.sink import PATIENCE_S, SinkWorkspace
from support.waiting import wait_until


class Recovered(SinkWorkspace):
    """A pipeline with the commands of its operator: they find Kafka and the catalog as a service does."""

    def command(self, *arguments: object) -> Answer:
        """Run a command that takes a pipeline's file on this one."""
        return k2(*arguments, "--pipeline", self.folder / "pipeline.yaml")

    @property
    def table(self) -> Table:
        """The table as it is now."""
        table = trades_table(self.folder, self.namespace)
        assert table is not None
        return table

    @property
    def state(self) -> CommitState:
        """The state that the table's property holds."""
        state = committed_state(self.folder, self.namespace)
        assert state is not None
        return state

    @property
    def summary(self) -> dict[str, Any]:
        """The summary of the head."""
        head = self.table.current_snapshot()
        assert head is not None
        assert head.summary is not None
        return head.summary.additional_properties

    def rows(self) -> dict[str, Record]:
        """Return the table's rows by id; an id that stands twice fails the test."""
        return by_message_id(records_of(table_rows(self.folder, self.namespace)))

    def commit(self, *parts: list[Record]) -> list[Snapshot]:
        """Let one sink commit these, part by part, and return the snapshot after each."""
        sink, heads = self.start(), []
        for part in parts:
            wanted = self.committed() + len(part)
            self.produce(part)
            wait_until(partial(self._stands_at, wanted), "a part to be committed")
            head = self.table.current_snapshot()
            assert head is not None
            heads.append(head)
        assert sink.terminate() == 0
        return heads

    def _stands_at(self, offsets: int) -> bool:
        return self.committed() == offsets

    def trim(self, partition: int, offset: int) -> None:
        """Remove a partition's records before an offset, as retention does."""
        client = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        where = TopicPartition(self.topic, partition, offset)
        client.delete_records([where])[where].result(PATIENCE_S)

    def delete_topic(self) -> None:
        """Delete the topic of its trades."""
        client = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        client.delete_topics([self.topic])[self.topic].result(PATIENCE_S)
        wait_until(lambda: self.topic not in self.admin.describe_topics([self.topic]), "the topic to be gone")

    def refused(self, *says: str) -> str:
        """Run a sink that must refuse to go on, and return what it says."""
        sink = self.start(K2_SINK_STOP_AT_END="true")
        assert sink.wait() == 5, sink.log.read_text()
        message = str(sink.lines[-1]["message"])
        for text in says:
            assert text in message
        return message

    def balanced(self) -> None:
        """Check that every offset that the state counts as a row is one, at every topic that ever had the name."""
        rows = table_rows(self.folder, self.namespace)
        held: dict[tuple[str, Partition], int] = {}
        places = [rows.column(name).to_pylist() for name in ("topic_id", "kafka_partition", "kafka_offset")]
        assert len(set(zip(*places, strict=True))) == len(rows)
        for topic_id, partition, _ in zip(*places, strict=True):
            held[topic_id, partition] = held.get((topic_id, partition), 0) + 1
        topic = self.state.topics[self.topic]
        for topic_id, partitions in {**topic.former, topic.id: topic.partitions}.items():
            for number, at in partitions.items():
                assert at.rows() == held.pop((topic_id, number), 0), (topic_id, number, at)
        assert held == {}
