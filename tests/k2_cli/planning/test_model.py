"""What a load needs, against the same arithmetic written out for single loads, and how it grows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from k2_cli.planning.figures import Assumed, Measured, Prices
from k2_cli.planning.model import HOURS, MONTH_S, Load, Plan, plan

MEASURED = Measured(
    ingest_per_core_s=100_000,
    sink_per_core_s=400_000,
    sink_process_per_s=300_000,
    tail_per_core_s=600_000,
    table_bytes=10,
    sink_gib=1,
)
ASSUMED = Assumed(utilization=0.5, log_bytes=100, broker_bytes_s=100e6, broker_disk_gb=4_000, commit_s=0.5)
PRICES = Prices(
    as_of="2026-01",
    region="here",
    vcpu_hour=0.1,
    disk_gb_month=0.2,
    object_gb_month=0.01,
    put_per_1000=0.005,
    get_per_1000=0.0004,
    zone_transfer_gb=0.02,
    region_transfer_gb=0.03,
    catalog_hour=1,
)
LOAD = Load(rate=100_000, retention_days=10, peak=3)


def made(load: Load = LOAD, assumed: Assumed = ASSUMED) -> Plan:
    return plan(load, MEASURED, assumed, PRICES)


def counts(found: Plan) -> dict[str, float]:
    return {part.name: part.count for part in found.parts}


def costs(found: Plan) -> dict[str, float]:
    return {part.name: part.dollars for part in found.parts}


def test_processes_are_for_the_peak_and_bytes_for_the_mean() -> None:
    found = made()
    assert counts(found) == {
        "ingest": 6,  # 300,000 a second at 50,000 a core
        "Kafka brokers": 3,  # 90 MB/s in three copies would need 2
        "Kafka log": pytest.approx(100_000 * 86_400 * 100 / 1e9 * 3),
        "sinks": 2,  # at 150,000 each
        "query API": 2,
        "catalog": 1,
        "table": pytest.approx(100_000 * 864_000 * 10 / 1e9),
        "requests": pytest.approx(2 * MONTH_S / 10 * 19 + MONTH_S * 20),
        "between zones": pytest.approx(100_000 * MONTH_S * 100 / 1e9 * (8 / 3 + 2)),
    }
    assert (found.pipelines, found.partitions, found.commit_interval_s, found.mode) == (1, 4, 10, "single")


def test_money_is_counts_times_prices() -> None:
    found, count = costs(made()), counts(made())
    assert found["ingest"] == pytest.approx(6 * HOURS * 0.1)
    assert found["Kafka brokers"] == pytest.approx(3 * 4 * HOURS * 0.1)
    assert found["query API"] == pytest.approx(2 * 2 * HOURS * 0.1)
    assert found["Kafka log"] == pytest.approx(count["Kafka log"] * 0.2)
    assert found["table"] == pytest.approx(count["table"] * 0.01)
    assert found["catalog"] == HOURS
    assert found["requests"] == pytest.approx(2 * MONTH_S / 10 * 19 / 1e3 * 0.005 + MONTH_S * 20 / 1e3 * 0.0004)
    assert made().dollars == pytest.approx(sum(found.values()))
    assert made().dollars_per_million == pytest.approx(made().dollars / (100_000 * MONTH_S / 1e6))


def test_a_log_that_is_kept_for_long_needs_brokers_for_its_disks() -> None:
    assert counts(made(replace(LOAD, log_hours=24 * 7)))["Kafka brokers"] == 5  # 18 TB at 4 each


def test_what_one_api_cannot_follow_is_split_over_pipelines() -> None:
    found = made(replace(LOAD, rate=1_000_000))
    assert (found.pipelines, counts(found)["query API"], counts(found)["sinks"]) == (10, 20, 20)
    assert found.commit_interval_s == 10


def test_sinks_of_one_table_commit_in_turns() -> None:
    slow = ASSUMED.model_copy(update={"commit_s": 5.0, "longest_interval_s": 60.0})
    found = made(replace(LOAD, rate=500_000), slow)
    assert counts(found)["sinks"] == 10
    assert (found.pipelines, found.commit_interval_s) == (5, 20)
    slower = made(replace(LOAD, rate=500_000), slow.model_copy(update={"commit_s": 60.0}))
    assert (slower.pipelines, counts(slower)["sinks"]) == (20, 20)


@pytest.mark.parametrize(
    ("load", "assumed", "workers"),
    [
        pytest.param(LOAD, ASSUMED, None, id="small"),
        pytest.param(LOAD, ASSUMED.model_copy(update={"single_node_gb": 800.0}), 2, id="a large table"),
        pytest.param(replace(LOAD, queries_per_s=40, query_gb=0.1), ASSUMED, 3, id="many queries"),
    ],
)
def test_trino_takes_over_beyond_one_node(load: Load, assumed: Assumed, workers: int | None) -> None:
    found = made(load, assumed)
    assert counts(found).get("Trino workers") == workers
    assert found.mode == ("single" if workers is None else "distributed")
    assert ("Trino coordinator" in counts(found)) == (workers is not None)


def test_further_regions_and_a_copy_are_added() -> None:
    alone = costs(made())
    shared = sum(alone.values()) - alone["ingest"]
    log_gb_month = 100_000 * MONTH_S * 100 / 1e9
    regions = costs(made(replace(LOAD, regions=3)))
    assert regions["further regions"] == pytest.approx(2 * (shared + log_gb_month * 0.03))
    copied = costs(made(replace(LOAD, recovery=True)))
    added_gb = 100_000 * MONTH_S * 10 / 1e9
    assert copied["copy for recovery"] == pytest.approx(864 * 0.01 + added_gb * 0.03)
    assert {name: copied[name] for name in alone} == alone


def test_advice_comes_where_something_else_is_cheaper() -> None:
    assert made(replace(LOAD, rate=1_000)).advice == ()
    large = made(replace(LOAD, rate=1_000_000, retention_days=3_650))
    assert [line.split(":")[0] for line in large.advice] == [
        "the table costs more than 10,000 $",
        "zones cost more than 3,000 $",
    ]
    busy = made(replace(LOAD, rate=1_000, queries_per_s=40))
    assert [line.split(":")[0] for line in busy.advice] == ["queries scan more than the API's cores can"]


@pytest.mark.parametrize("rate", [0.001, 10, 1e4, 1e6, 1e9])
def test_more_is_never_cheaper(rate: float) -> None:
    assert made(replace(LOAD, rate=2 * rate)).dollars >= made(replace(LOAD, rate=rate)).dollars
