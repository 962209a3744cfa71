"""What the policy is told of two looks: rates, sinks that tell, sinks that are gone, and what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from k2_core.controller.lag import PartitionLag
from k2_core.controller.look import Look
from k2_core.controller.sight import Executor, observe
from k2_core.controller.stall import Stall
from k2_core.policy.observation import Observation, outage_budget_s
from k2_core.sink_report import FRESH_S, SinkReport
from k2_core.types import Level, Offset, Partition, TopicName

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
T = TopicName("market.crypto.trades.binance")
RUNS = Executor(replicas=1)


def partition(number: int, end: int, read: int | None, *, start: int = 0, age_s: float | None = 3.0) -> PartitionLag:
    at = (T, Partition(number))
    position = None if read is None else Offset(read)
    return PartitionLag(at, Offset(start), Offset(end), position, position, age_s, age_s)


def report(sink: str = "sink-0/1", at: datetime = AT, **more: object) -> SinkReport:
    return replace(SinkReport(sink, at, memory_ratio=0.2), **more)  # type: ignore[arg-type]


def look(
    *partitions: PartitionLag, at: datetime = AT, members: int = 1, reports: list[SinkReport] | None = None
) -> Look:
    told = [report(at=at)] if reports is None else reports
    return Look(at, partitions, {one.sink: one for one in told}, members, retention_s=3600.0)


def two_looks(first: Mapping[str, object], second: Mapping[str, object], seconds: float = 2.0) -> Observation:
    before = look(partition(0, 100, 100), **first)  # type: ignore[arg-type]
    after = look(partition(0, 300, 200), at=AT + timedelta(seconds=seconds), **second)  # type: ignore[arg-type]
    return observe(before, after, RUNS)


class TestRates:
    def test_the_first_look_has_none(self) -> None:
        found = observe(None, look(partition(0, 100, 90)), RUNS)
        assert (found.offered_per_s, found.accepted_per_s, found.shed_per_s) == (None, None, None)
        assert found.unread_records == 10

    def test_the_logs_growth_is_what_is_offered(self) -> None:
        found = two_looks({}, {})
        assert (found.offered_per_s, found.accepted_per_s, found.shed_per_s) == (100.0, 50.0, 0.0)

    def test_what_is_shed_is_not_accepted(self) -> None:
        shed = [report(at=AT, shed=10)], [report(at=AT + timedelta(seconds=2), shed=70)]
        found = two_looks({"reports": shed[0]}, {"reports": shed[1]})
        assert (found.accepted_per_s, found.shed_per_s) == (20.0, 30.0)

    def test_a_sink_that_is_new_has_shed_all_of_its_count_since(self) -> None:
        found = two_looks({}, {"reports": [report("sink-0/2", AT + timedelta(seconds=2), shed=20)]})
        assert found.shed_per_s == 10.0

    def test_a_topic_that_has_grown_has_no_rate_at_once(self) -> None:
        before = look(partition(0, 100, 100))
        after = look(partition(0, 200, 200), partition(1, 50, 0), at=AT + timedelta(seconds=2))
        assert observe(before, after, RUNS).offered_per_s is None

    def test_a_clock_that_was_set_back_gives_no_rate(self) -> None:
        assert two_looks({}, {}, seconds=-1).offered_per_s is None

    def test_a_log_that_was_made_again_does_not_shrink_the_rate(self) -> None:
        before, after = look(partition(0, 100, 100)), look(partition(0, 10, 10), at=AT + timedelta(seconds=2))
        found = observe(before, after, RUNS)
        assert (found.offered_per_s, found.accepted_per_s) == (0.0, 0.0)

    def test_a_partition_that_is_read_for_the_first_time_counts_from_its_start(self) -> None:
        before = look(partition(0, 100, None, start=20))
        found = observe(before, look(partition(0, 100, 80, start=20), at=AT + timedelta(seconds=2)), RUNS)
        assert found.accepted_per_s == 30.0


class TestSinks:
    def test_what_they_tell(self) -> None:
        told = [
            report("a/1", memory_ratio=0.9, commit_s=1.5, standing_s=0.25, own_level=Level.SOFT),
            report("b/1", failing=True, commit_s=0.5, standing_s=2.5),
        ]
        found = observe(None, look(members=2, reports=told), Executor(3, rolling_out=True))
        assert (found.memory_ratio, found.downstream_failing, found.commit_duration_s) == (0.9, True, 1.5)
        assert found.standing_s == 2.5
        assert (found.service_level, found.ready_replicas) == (Level.SOFT, 2)
        assert (found.replicas, found.rolling_out) == (3, True)

    def test_members_that_do_not_tell_are_not_known(self) -> None:
        old = [report(at=AT - timedelta(seconds=FRESH_S))]
        found = observe(None, look(members=1, reports=old), RUNS)
        assert (found.memory_ratio, found.downstream_failing) == (None, None)
        assert found.ready_replicas == 0

    def test_members_that_hang_leave_it_to_kafka(self) -> None:
        """Its lag is known, and that is enough for levels; how long a commit takes is not, which holds the sinks."""
        old = [report(at=AT - timedelta(minutes=1), memory_ratio=0.9, failing=True)]
        behind = look(partition(0, 100, 90), members=1, reports=old)
        assert observe(None, behind, RUNS).stalled_s is None
        found = observe(None, behind, RUNS, Stall(31.0, 10, ("sink-0/1",)))
        assert (found.memory_ratio, found.downstream_failing, found.stalled_s) == (0.0, False, 31.0)
        assert (found.unread_records, found.oldest_unread_age_s) == (10, 3.0)
        assert (found.commit_duration_s, found.positions_age_s, found.ready_replicas) == (None, None, 0)

    def test_memory_that_one_of_them_does_not_know_is_not_known(self) -> None:
        found = observe(None, look(members=2, reports=[report("a/1"), report("b/1", memory_ratio=None)]), RUNS)
        assert found.memory_ratio is None

    def test_no_members_use_no_memory_and_fail_at_nothing(self) -> None:
        old = [report(at=AT - timedelta(minutes=1), memory_ratio=0.9, failing=True, own_level=Level.AGGRESSIVE)]
        found = observe(None, look(members=0, reports=old), RUNS)
        assert (found.memory_ratio, found.downstream_failing, found.service_level) == (0.0, False, Level.NORMAL)

    def test_a_sink_that_has_just_left_is_not_ready(self) -> None:
        assert observe(None, look(members=0), RUNS).ready_replicas == 0

    def test_nobody_has_committed_yet(self) -> None:
        assert observe(None, look(), RUNS).commit_duration_s is None
        assert observe(None, look(), RUNS).standing_s == 0
        assert observe(None, look(members=0, reports=[]), RUNS).standing_s is None


class TestPositions:
    def test_they_are_as_old_as_the_oldest_of_those_that_tell(self) -> None:
        told = [report("a/1", AT - timedelta(seconds=0.4)), report("b/1", AT - timedelta(seconds=1.2))]
        assert observe(None, look(members=2, reports=told), RUNS).positions_age_s == 1.2

    def test_a_clock_ahead_makes_none_younger_than_now(self) -> None:
        assert observe(None, look(reports=[report(at=AT + timedelta(seconds=2))]), RUNS).positions_age_s == 0

    @pytest.mark.parametrize("members", [0, 2], ids=["nobody", "a silent one among them"])
    def test_it_is_not_known(self, members: int) -> None:
        told = [report(at=AT - timedelta(seconds=FRESH_S * (members == 0)))]
        assert observe(None, look(members=members, reports=told), RUNS).positions_age_s is None


class TestDeferred:
    def test_what_is_owed_and_since_when(self) -> None:
        told = [
            report("a/1", deferred=5, oldest_deferred_at=AT - timedelta(minutes=2)),
            report("b/1", deferred=7, oldest_deferred_at=AT - timedelta(minutes=1)),
        ]
        found = observe(None, look(members=2, reports=told), RUNS)
        assert (found.deferred_records, found.oldest_deferred_age_s) == (12, 120.0)

    def test_what_waits_unread_is_summed_over_those_that_tell(self) -> None:
        silent = report("gone/1", AT - timedelta(minutes=5), waiting=100)
        told = [report("a/1", waiting=5), report("b/1", waiting=7), silent]
        assert observe(None, look(members=2, reports=told), RUNS).waiting_records == 12

    def test_nothing_is_owed(self) -> None:
        found = observe(None, look(), RUNS)
        assert (found.deferred_records, found.oldest_deferred_age_s) == (0, 0.0)

    def test_nobody_knows_since_when(self) -> None:
        found = observe(None, look(reports=[report(deferred=5)]), RUNS)
        assert (found.deferred_records, found.oldest_deferred_age_s) == (5, None)

    @pytest.mark.parametrize("sink", ["sink-0/1", "sink-0/2"], ids=["the-same", "its-successor"])
    def test_a_sink_that_is_gone_does_not_count_beside_those_that_tell(self, sink: str) -> None:
        gone = report("gone/1", AT - timedelta(minutes=5), deferred=100, oldest_deferred_at=AT - timedelta(hours=1))
        now = report(sink, deferred=100, oldest_deferred_at=AT - timedelta(hours=1))
        assert observe(None, look(reports=[gone, now]), RUNS).deferred_records == 100

    def test_without_anybody_who_tells_the_last_word_counts(self) -> None:
        gone = report("gone/1", AT - timedelta(minutes=5), deferred=100, oldest_deferred_at=AT - timedelta(hours=1))
        found = observe(None, look(members=0, reports=[gone]), RUNS)
        assert (found.deferred_records, found.oldest_deferred_age_s) == (100, 3600.0)


class TestLag:
    def test_of_all_partitions(self) -> None:
        found = observe(None, look(partition(0, 100, 90), partition(1, 50, 50, age_s=0.0), partition(2, 0, None)), RUNS)
        assert (found.unread_records, found.oldest_unread_age_s, found.oldest_uncommitted_age_s) == (10, 3.0, 3.0)
        assert found.active_partitions == 2
        assert found.retention_s == 3600.0

    def test_a_log_of_bounded_bytes_keeps_what_is_owed_for_as_long_as_it_came_to_fill_it(self) -> None:
        behind = partition(0, 100, 90)
        bounds = {behind.at[0]: 1_000}
        full = replace(look(behind, partition(1, 50, 50, age_s=0.0)), retention_bytes=bounds)
        told = replace(full, reports={"s": report(record_bytes=20.0)})  # 50 records, and 10 came in 3 s
        found = observe(None, told, RUNS)
        assert (found.retention_s, found.size_retention_s, found.size_age_s) == (3600.0, 15.0, 3.0)
        assert outage_budget_s(replace(found, oldest_deferred_age_s=0.0)) == 12.0
        unknown = observe(None, full, RUNS)
        assert (unknown.retention_s, unknown.size_retention_s) == (None, None)
        other = observe(None, replace(full, retention_bytes={TopicName("other"): 1_000}), RUNS)
        assert (other.retention_s, other.size_retention_s) == (3600.0, None)

    def test_what_levels_put_off_uses_a_share_of_the_bytes(self) -> None:
        since = AT - timedelta(seconds=80)
        told = [report(deferred=5, oldest_deferred_at=since, deferred_share=0.8, record_bytes=1.0), report("other")]
        found = observe(None, look(partition(0, 50, 50, age_s=0.0), reports=told), RUNS)
        assert (found.size_retention_s, found.size_age_s) == (100.0, 80.0)

    def test_a_partition_that_nobody_reads_makes_it_unknown(self) -> None:
        found = observe(None, look(partition(0, 100, 90), partition(1, 50, None, age_s=None)), RUNS)
        assert (found.unread_records, found.oldest_unread_age_s) == (None, None)


def test_whoever_runs_the_sinks_says_that_they_are_to_stop() -> None:
    assert observe(None, look(), Executor(1, stopping=True)).stopping
    assert not observe(None, look(), RUNS).stopping
