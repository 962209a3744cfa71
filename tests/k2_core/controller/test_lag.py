"""Unread and uncommitted, in records and as ages: what is not known is never 0."""

from __future__ import annotations

from dataclasses import replace

import pytest

from k2_core.controller.lag import Lag, LogPartition, PartitionLag, by_topic, partition_lags, total, wanted_ages
from k2_core.types import Offset, Partition, TopicName

T = TopicName("market.crypto.trades.binance")
P0, P1 = (T, Partition(0)), (T, Partition(1))


def positions(**offsets: int) -> dict[LogPartition, Offset]:
    return {(T, Partition(int(name[1:]))): Offset(offset) for name, offset in offsets.items()}


def one(
    start: int = 0, end: int = 100, read: int | None = 100, committed: int | None = 100, age_s: float | None = 7.0
) -> PartitionLag:
    known = {name: positions(p0=at) if at is not None else {} for name, at in (("read", read), ("in", committed))}
    (found,) = partition_lags(
        positions(p0=start), positions(p0=end), known["read"], known["in"], lambda _, offset: age_s and age_s + offset
    )
    return found


class TestPartition:
    def test_what_lies_between(self) -> None:
        found = one(read=90, committed=40)
        assert (found.unread, found.uncommitted) == (10, 60)
        assert (found.unread_age_s, found.uncommitted_age_s) == (97.0, 47.0)

    def test_nothing_is_behind(self) -> None:
        found = one()
        assert (found.unread, found.uncommitted, found.unread_age_s, found.uncommitted_age_s) == (0, 0, 0.0, 0.0)

    def test_a_position_that_nobody_told_is_not_known(self) -> None:
        found = one(read=None, committed=None)
        assert (found.unread, found.uncommitted, found.unread_age_s, found.uncommitted_age_s) == (None,) * 4

    def test_an_empty_partition_keeps_nobody_waiting(self) -> None:
        found = one(start=100, read=None, committed=None)
        assert (found.unread, found.uncommitted, found.unread_age_s, found.uncommitted_age_s) == (0, 0, 0.0, 0.0)

    def test_what_retention_took_away_is_not_behind(self) -> None:
        found = one(start=95, read=90)
        assert found.unread == 5
        assert found.unread_age_s == 102.0

    def test_a_position_beyond_the_end_is_not_behind(self) -> None:
        assert one(read=130).unread == 0

    def test_an_age_that_could_not_be_read_is_not_known(self) -> None:
        found = one(read=90, age_s=None)
        assert found.unread == 10
        assert found.unread_age_s is None


class TestTotal:
    def test_sums_and_greatest_ages(self) -> None:
        assert total([one(read=90), one(read=99, committed=95)]) == Lag(11, 5, 106.0, 102.0)

    @pytest.mark.parametrize("order", [1, -1], ids=["first", "last"])
    def test_what_is_not_known_of_one_is_not_known_of_all(self, order: int) -> None:
        parts = [one(read=None, committed=50), one()][::order]
        assert total(parts) == Lag(None, 50, None, 57.0)

    def test_of_nothing(self) -> None:
        assert total([]) == Lag(0, 0, 0.0, 0.0)

    def test_by_topic(self) -> None:
        at = (TopicName("other"), Partition(0))
        other = PartitionLag(at, Offset(0), Offset(9), Offset(2), Offset(0), 1.0, 2.0, 4.0)
        assert by_topic([one(read=90), other]) == {T: Lag(10, 0, 97.0, 0.0), "other": Lag(7, 9, 1.0, 2.0, 4.0)}

    def test_the_newest_commit_of_any_part(self) -> None:
        parts = [replace(one(), committed_age_s=age_s) for age_s in (9.0, None, 3.0)]
        assert total(parts).committed_age_s == 3.0
        assert total(parts[1:2]).committed_age_s is None


class TestWantedAges:
    def test_where_something_is_behind(self) -> None:
        ends = positions(p0=100, p1=100, p2=100)
        assert wanted_ages({}, ends, positions(p0=90, p1=100, p9=1)) == positions(p0=90)

    def test_from_where_the_log_still_is(self) -> None:
        assert wanted_ages(positions(p0=95), positions(p0=100), positions(p0=90)) == positions(p0=95)
