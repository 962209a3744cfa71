"""From rate and retention to processes, bytes, requests and money: arithmetic on `figures`. Pure.

Sizes are for the peak, bytes and requests for the mean rate. A month has 730 hours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from k2_cli.planning.figures import Assumed, Measured, Prices

HOURS: Final = 730
MONTH_S: Final = HOURS * 3_600
DAY_S: Final = 86_400
GB: Final = 1e9
LEAST_BROKERS: Final = 3
LEAST_INTERVAL_S: Final = 10.0
PARTITIONS_PER_SINK: Final = 2
"""So that one more sink has something to do."""
API_PODS: Final = 2
"""Of each pipeline."""
COMMITS_PER_INTERVAL: Final = 2
"""Sinks commit in turns: an interval has room for twice as many commits as there are sinks; see the commit protocol."""
METADATA_PUTS: Final = 3
"""Of a commit: manifest, manifest list, table metadata."""
STORAGE_TRIGGER: Final = 10_000
TRANSFER_TRIGGER: Final = 3_000
"""Dollars a month from which something else is cheaper."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a pipeline.

    Args:
        rate: Records a second, the mean.
        retention_days: Of the table.
        peak: Times the mean that processes are sized for.
        log_hours: How long Kafka keeps records.
        queries_per_s: To the API.
        query_gb: That each scans, not from a cache.
        regions: In which the pipeline runs, each with all trades.
        recovery: Whether a copy of the table lies in a further region.
    """

    rate: float
    retention_days: float
    peak: float = 3
    log_hours: float = 24
    queries_per_s: float = 1
    query_gb: float = 0.1
    regions: int = 1
    recovery: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One line of a plan.

    Args:
        name: What it is.
        count: How many, of what `size` says.
        size: Each of them.
        dollars: A month, all of them.
    """

    name: str
    count: float
    size: str
    dollars: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a load needs.

    Args:
        load: Of which.
        parts: With what they cost.
        pipelines: Over which the symbols are split, a namespace each: the API of each follows the end of its log, and
            its sinks commit to one table in turns.
        partitions: Of all topics, at least.
        commit_interval_s: Between two commits of a sink.
        mode: `query.mode` of the pipeline.
        advice: What would be cheaper.
    """

    load: Load
    parts: tuple[Part, ...]
    pipelines: int
    partitions: int
    commit_interval_s: float
    mode: str
    advice: tuple[str, ...]

    @property
    def dollars(self) -> float:
        """A month."""
        return sum(part.dollars for part in self.parts)

    @property
    def dollars_per_million(self) -> float:
        """Of records taken in."""
        return self.dollars / (self.load.rate * MONTH_S / 1e6)


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Counts and bytes in one region."""

    ingests: int
    sinks: int
    pipelines: int
    brokers: int
    interval_s: float
    log_gb: float
    table_gb: float
    workers: int
    log_gb_month: float
    puts: float
    gets: float


def plan(load: Load, measured: Measured, assumed: Assumed, prices: Prices) -> Plan:
    """Return what a load needs and costs."""
    sizes = _sizes(load, measured, assumed)
    one = tuple(_region(sizes, assumed, prices))
    parts = one + tuple(_adders(load, one, sizes, prices))
    mode = "distributed" if sizes.workers else "single"
    advice = tuple(_advice(parts, sizes, assumed))
    partitions = PARTITIONS_PER_SINK * sizes.sinks
    return Plan(load, parts, sizes.pipelines, partitions, sizes.interval_s, mode, advice)


def _sizes(load: Load, measured: Measured, assumed: Assumed) -> _Sizes:
    peak = load.rate * load.peak
    sinks = _count(peak, min(measured.sink_per_core_s, measured.sink_process_per_s) * assumed.utilization)
    turns_s = COMMITS_PER_INTERVAL * sinks * assumed.commit_s
    pipelines = max(
        _count(peak, measured.tail_per_core_s * assumed.utilization), _count(turns_s, assumed.longest_interval_s)
    )
    sinks = max(sinks, pipelines)
    interval_s = max(LEAST_INTERVAL_S, COMMITS_PER_INTERVAL * math.ceil(sinks / pipelines) * assumed.commit_s)
    log_gb = load.rate * load.log_hours * 3_600 * assumed.log_bytes / GB * assumed.replication
    written_bytes_s = peak * assumed.log_bytes * assumed.replication
    brokers = max(
        LEAST_BROKERS,
        _count(written_bytes_s, assumed.broker_bytes_s * assumed.utilization),
        _count(log_gb, assumed.broker_disk_gb),
    )
    table_gb = load.rate * load.retention_days * DAY_S * measured.table_bytes / GB
    scanned = load.queries_per_s * load.query_gb
    per_core = assumed.scan_gb_per_core_s * assumed.utilization
    cores = API_PODS * pipelines * assumed.api_vcpu
    single = table_gb <= assumed.single_node_gb * pipelines and scanned <= cores * per_core
    commits = sinks * MONTH_S / interval_s
    return _Sizes(
        ingests=_count(peak, measured.ingest_per_core_s * assumed.utilization),
        sinks=sinks,
        pipelines=pipelines,
        brokers=brokers,
        interval_s=interval_s,
        log_gb=log_gb,
        table_gb=table_gb,
        workers=0 if single else max(2, _count(scanned, per_core * assumed.worker_vcpu)),
        log_gb_month=load.rate * MONTH_S * assumed.log_bytes / GB,
        puts=commits * (assumed.files_per_commit + METADATA_PUTS),
        gets=load.queries_per_s * MONTH_S * assumed.files_per_query,
    )


def _region(sizes: _Sizes, assumed: Assumed, prices: Prices) -> Iterator[Part]:
    def cores(name: str, count: float, vcpu: float) -> Part:
        return Part(name, count, f"{vcpu:g} vCPU", count * vcpu * HOURS * prices.vcpu_hour)

    yield cores("ingest", sizes.ingests, 1)
    yield cores("Kafka brokers", sizes.brokers, assumed.broker_vcpu)
    yield Part("Kafka log", sizes.log_gb, "GB, all copies", sizes.log_gb * prices.disk_gb_month)
    yield cores("sinks", sizes.sinks, 1)
    yield cores("query API", API_PODS * sizes.pipelines, assumed.api_vcpu)
    if sizes.workers:
        yield cores("Trino coordinator", 1, 4)
        yield cores("Trino workers", sizes.workers, assumed.worker_vcpu)
    yield Part("catalog", 1, "PostgreSQL", HOURS * prices.catalog_hour)
    yield Part("table", sizes.table_gb, "GB", sizes.table_gb * prices.object_gb_month)
    requests = sizes.puts / 1_000 * prices.put_per_1000 + sizes.gets / 1_000 * prices.get_per_1000
    yield Part("requests", sizes.puts + sizes.gets, f"a month, {sizes.puts:,.0f} of them writes", requests)
    # Two thirds of what producers, sinks and the API's tails move goes to another zone, and each further copy of it.
    copies = 2 / 3 * (2 + API_PODS) + assumed.replication - 1
    moved_gb = sizes.log_gb_month * copies
    yield Part("between zones", moved_gb, "GB a month", moved_gb * prices.zone_transfer_gb)


def _adders(load: Load, one: Sequence[Part], sizes: _Sizes, prices: Prices) -> Iterator[Part]:
    further = load.regions - 1
    if further:
        each = sum(part.dollars for part in one if part.name != "ingest")
        transfer = sizes.log_gb_month * prices.region_transfer_gb
        yield Part("further regions", further, "all but ingest, and the log's way there", further * (each + transfer))
    if load.recovery:
        added_gb = sizes.table_gb / load.retention_days * MONTH_S / DAY_S
        dollars = sizes.table_gb * prices.object_gb_month + added_gb * prices.region_transfer_gb
        yield Part("copy for recovery", sizes.table_gb, "GB in a further region", dollars)


def _advice(parts: Sequence[Part], sizes: _Sizes, assumed: Assumed) -> Iterator[str]:
    dollars = {part.name: part.dollars for part in parts}
    if dollars["table"] > STORAGE_TRIGGER:
        yield f"the table costs more than {STORAGE_TRIGGER:,} $: move what is old to a colder class of storage"
    if dollars["between zones"] > TRANSFER_TRIGGER:
        yield f"zones cost more than {TRANSFER_TRIGGER:,} $: let sinks and API fetch from the nearest copy of the log"
    if sizes.workers and sizes.table_gb <= assumed.single_node_gb * sizes.pipelines:
        yield "queries scan more than the API's cores can: narrower windows or more of its pods may do without Trino"


def _count(amount: float, each: float) -> int:
    return max(1, math.ceil(amount / each))
