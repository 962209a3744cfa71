"""The sink alone: a topic of 2 M trades in 4 partitions into the real table (partitioned, sorted, state and dedup on).

CPU is that of the sink's process from its first read to its last commit, librdkafka's threads included; start-up is
given apart. Baselines of the same run: only consuming the same topic, and the obvious Python of one record at a time
(fastavro, from_pylist, append) on its first 100,000 records.
"""

from __future__ import annotations

import io
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
from committed import check_table
from confluent_kafka import Consumer, TopicPartition
from figures import Figure, at_least, at_most
from sink_run import run_to_end, settings_in
from workload import NAMESPACE, TOPIC, Progress, expected_ids, prefill, write_pipeline

from k2_cli.stack.kafka import LocalKafka
from k2_core.codec import PREFIX_BYTES
from k2_core.config import ServiceSettings
from k2_core.records import TRADES
from k2_core.runtime import tune_for_batches
from k2_core.tables import ensure_table, load_table, open_catalog

RECORDS = 2_000_000
PARTITIONS = 4
PER_RECORD_SAMPLE = 100_000
STAGES = ("consume", "decode", "sort", "write", "commit")


def run(progress: Progress) -> list[Figure]:
    """Fill a topic, run the sink over it, and the baselines."""
    with tempfile.TemporaryDirectory(prefix="k2-bench-") as name, LocalKafka(Path(name)) as kafka:
        folder = Path(name)
        settings = settings_in(folder, kafka.bootstrap_servers)
        started = time.monotonic()
        size = prefill(settings, RECORDS, PARTITIONS, progress)
        progress(f"topic filled in {time.monotonic() - started:.0f} s, {size / RECORDS:.0f} bytes a record")
        consume_only = _consume_only(kafka.bootstrap_servers)
        progress(f"only consuming: {consume_only:,.0f} records per CPU-second")
        per_record = _per_record(folder, kafka.bootstrap_servers)
        progress(f"one record at a time: {per_record:,.0f} records per CPU-second")
        last, usage = run_to_end(settings, write_pipeline(folder, PARTITIONS))
        figures = _figures(last, usage, (consume_only, per_record))
        _check(settings)
        return figures


def _figures(last: dict[str, object], usage: resource.struct_rusage, baselines: tuple[float, float]) -> list[Figure]:
    consume_only, per_record = baselines
    cpu_s, wall_s, stages = last["cpu_s"], last["wall_s"], last["stage_cpu_s"]
    assert isinstance(cpu_s, float)
    assert isinstance(wall_s, float)
    assert isinstance(stages, dict)
    total_cpu_s = usage.ru_utime + usage.ru_stime
    rate, unit = RECORDS / cpu_s, "records/CPU-s"
    figures = [
        at_least("sink", "throughput per CPU-second", rate, unit, 200_000, per_record),
        at_least("sink", "throughput per CPU-second, next goal", rate, unit, 300_000, per_record),
        Figure("sink", "of what only consuming reaches", rate / consume_only, "ratio", baseline=1.0),
        Figure("sink", "only consuming", consume_only, unit),
        Figure("sink", "throughput", RECORDS / wall_s, "records/s"),
        at_most("sink", "peak memory (RSS)", usage.ru_maxrss / 1024 / 1024, "GiB", 1.5),
        Figure("sink", "start-up CPU, not counted above", total_cpu_s - cpu_s, "s"),
    ]
    split = {name: float(stages[name]) for name in STAGES}
    split["librdkafka and other threads"] = cpu_s - sum(split.values())
    return figures + [
        Figure("sink", f"CPU of {name}", seconds / RECORDS * 1e6, "us/record") for name, seconds in split.items()
    ]


def _consumer(bootstrap_servers: str) -> Consumer:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "bench",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 5,
            "queued.max.messages.kbytes": 65_536,
        }
    )
    consumer.assign([TopicPartition(TOPIC, number, 0) for number in range(PARTITIONS)])
    return consumer


def _consume_only(bootstrap_servers: str) -> float:
    """Return records per CPU-second of taking the bytes of every record, and nothing else."""
    tune_for_batches()  # as the sink does, or the comparison would flatter it
    consumer = _consumer(bootstrap_servers)
    cpu, count = time.process_time(), 0
    while count < RECORDS:
        count += len([message.value() for message in consumer.consume(10_000, 1)])
    spent = time.process_time() - cpu
    consumer.close()
    return count / spent


def _per_record(folder: Path, bootstrap_servers: str) -> float:
    """Return records per CPU-second of decoding one by one and appending with the library's defaults."""
    settings = settings_in(folder / "per-record", bootstrap_servers)
    (folder / "per-record").mkdir()
    table = ensure_table(open_catalog(settings), NAMESPACE, TRADES, "bench")
    schema = fastavro.parse_schema(TRADES.avro)
    consumer = _consumer(bootstrap_servers)
    cpu = time.process_time()
    rows: list[dict[str, Any]] = []
    while len(rows) < PER_RECORD_SAMPLE:
        for message in consumer.consume(10_000, 1):
            value = message.value()
            assert isinstance(value, bytes)
            row: Any = fastavro.schemaless_reader(io.BytesIO(value[PREFIX_BYTES:]), schema, None)
            row["event_time"] = row["exchange_timestamp"] or row["receive_timestamp"]
            row |= {"topic_id": "id", "kafka_partition": message.partition(), "kafka_offset": message.offset()}
            rows.append(row)
    table.append(pa.Table.from_pylist(rows, schema=TRADES.table_schema))
    spent = time.process_time() - cpu
    consumer.close()
    return len(rows) / spent


def _check(settings: ServiceSettings) -> None:
    """Refuse to report on rows that are not all there, once each."""
    check_table(load_table(open_catalog(settings), NAMESPACE, TRADES), expected_ids(RECORDS))
