"""What level 3 costs: the sink over one topic of keyed trades, taking them in, deferring them, and draining them.

At level 2, with all symbols of class `low`, everything waits in the log alone; at level 3, with all of class `normal`,
it goes into raw files. Both are then drained as fast as the sink can. CPU is that of the sink's process from its first
read to its last commit.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from committed import check_table
from figures import Figure
from sink_run import run_to_end, settings_in
from workload import NAMESPACE, SYMBOLS, Progress, expected_ids, prefill, write_pipeline

from k2_cli.stack.kafka import LocalKafka
from k2_core.control import Command
from k2_core.control_topic import ControlWriter
from k2_core.errors import SetupError
from k2_core.records import TRADES
from k2_core.state import STATE_KEY, CommitState, owed_records
from k2_core.tables import load_table, open_catalog
from k2_core.types import Level

RECORDS = 1_000_000
PARTITIONS = 4
DRAIN_RECORDS_PER_S = 1_000_000


def run(progress: Progress) -> list[Figure]:
    """Fill a topic, and run a sink over it for each way."""
    with tempfile.TemporaryDirectory(prefix="k2-bench-") as name, LocalKafka(Path(name)) as kafka:
        prefill(settings_in(Path(name), kafka.bootstrap_servers), RECORDS, PARTITIONS, progress, keyed=True)
        taken = _sink(Path(name) / "taken", kafka, Level.NORMAL, "critical", 0)
        figures = [Figure("deferral", "taken in, level 0", taken, "records/CPU-s")]
        progress(f"taken in: {taken:,.0f} records per CPU-second")
        for way, level, priority in (("the log", Level.GRACEFUL, "low"), ("raw files", Level.AGGRESSIVE, "normal")):
            folder = Path(name) / priority
            deferred = _sink(folder, kafka, level, priority, RECORDS)
            raw = sum(path.stat().st_size for path in folder.rglob("*.raw/*.raw"))
            drained = _sink(folder, kafka, Level.NORMAL, priority, 0)
            progress(f"deferred to {way}: {deferred:,.0f}, drained {drained:,.0f} records per CPU-second")
            figures += [
                Figure("deferral", f"deferred to {way}, level {level:d}", deferred, "records/CPU-s", baseline=taken),
                Figure("deferral", f"drained from {way}", drained, "records/CPU-s", baseline=taken),
            ]
            if raw:
                figures.append(Figure("deferral", "raw files", raw / RECORDS, "bytes/record"))
        return figures


def _sink(folder: Path, kafka: LocalKafka, level: Level, priority: str, owed: int) -> float:
    """Return the records per CPU-second of a sink that runs to the end, and leaves so many records owed."""
    folder.mkdir(exist_ok=True)
    settings = settings_in(folder, kafka.bootstrap_servers)
    ControlWriter(settings, f"{NAMESPACE}.bench").command(Command(level, "FirstCrossing", datetime.now(UTC)))
    symbols = dict.fromkeys(SYMBOLS, priority)
    degradation = {"drainRecordsPerSecond": DRAIN_RECORDS_PER_S, "rawFilesBelowRetentionHours": 87_600}
    last, _ = run_to_end(settings, write_pipeline(folder, PARTITIONS, symbols, degradation=degradation))
    table = load_table(open_catalog(settings), NAMESPACE, TRADES)
    assert table is not None
    found = owed_records(CommitState.parse(table.properties[STATE_KEY]).open_ledger)
    if found != owed:
        raise SetupError(f"the ledger owes {found} records, expected {owed}")
    if not owed:
        check_table(table, expected_ids(RECORDS))
    return RECORDS / float(last["cpu_s"])
