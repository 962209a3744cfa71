"""Reads single ranges of the log for one query: what the tail has evicted, or a ledger still owes to the table.

A range of the log never changes, so what was read is kept, within a budget of bytes, for the next query that needs it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from k2_core.codec import BatchDecoder
from k2_core.config import ServiceSettings
from k2_core.errors import RetryableError
from k2_core.kafka import client_config
from k2_core.records import RecordType
from k2_core.schemas import SchemaSource
from k2_core.types import TopicId, TopicName
from k2_query.boundary import LogRange
from k2_query.budget import Budget
from k2_query.log_batches import decode
from k2_query.segments import TailStore, TailView
from k2_query.view_cache import ViewCache

MAX_RECORDS: Final = 500_000
"""Of one query: about 2 s of reading. Beyond, the answer says what is missing rather than keep its caller waiting."""
MAX_READ_S: Final = 3.0
"""Likewise, where the broker is slow or away; never more than half of what the query has left."""
_POLL_S: Final = 0.05
_POLL_RECORDS: Final = 10_000
_log = logging.getLogger(__name__)

_Key = tuple[TopicId, LogRange]


class LogReader:
    """Reads ranges. Thread-safe; each read has a consumer of its own.

    Args:
        settings: Where Kafka is.
        record_type: What the ranges hold.
        schemas: Where writer schemas come from.
    """

    def __init__(self, settings: ServiceSettings, record_type: RecordType, schemas: SchemaSource) -> None:
        self._config = client_config(
            settings,
            group_id="k2-query-ranges",  # required by the client; nothing is ever committed under it
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            enable_partition_eof=True,
            isolation_level="read_committed",
            auto_offset_reset="error",
            fetch_wait_max_ms=20,
        )
        self._record_type = record_type
        self._schemas = schemas
        self._cache: ViewCache[_Key] = ViewCache()

    def read(
        self, ranges: Sequence[LogRange], topic_ids: Mapping[TopicName, TopicId], budget: Budget
    ) -> dict[LogRange, TailView]:
        """Return those of the ranges that could be read, each as a view that covers it."""
        found: dict[LogRange, TailView] = {}
        records = 0
        reading = Budget(min(MAX_READ_S, budget.remaining_s / 2))
        for wanted in ranges:
            budget.check()
            key = (topic_ids[wanted.at.topic], wanted)
            view = self._cache.get(key)
            if view is None and records + len(wanted) <= MAX_RECORDS:
                records += len(wanted)
                view = self._read_one(wanted, topic_ids, reading)
            if view is not None:
                self._cache.keep(key, view)
                found[wanted] = view
        return found

    def _read_one(self, wanted: LogRange, topic_ids: Mapping[TopicName, TopicId], budget: Budget) -> TailView | None:
        store = TailStore(self._record_type, max_bytes=2**62)
        store.restart({wanted.at: wanted.start}, topic_ids)
        decoder = BatchDecoder(self._record_type, self._schemas.by_id)
        consumer = Consumer(self._config, logger=_log)
        try:
            consumer.assign([TopicPartition(wanted.at.topic, wanted.at.partition, wanted.start)])
            while store.covered()[wanted.at][1] < wanted.end:
                budget.check()
                first = consumer.poll(_POLL_S)
                if first is None:
                    continue
                messages = [first, *consumer.consume(_POLL_RECORDS, 0)]
                decoded = decode(messages, {wanted.at: 0}, decoder)
                store.append(decoded.rows, decoded.slots, decoded.offsets, decoded.ends)
        except (RetryableError, KafkaException) as error:
            _log.warning("a range of the log was not read", extra={"range": str(wanted), "problem": str(error)})
            return None
        finally:
            consumer.close()
        return store.view()
