"""The formula, its bounds and the commit interval."""

from __future__ import annotations

import pytest

from k2_core.policy.demand import Load, commit_interval_s, reckon, replica_cap
from k2_core.policy.reasons import Reason
from k2_core.policy.thresholds import ScalingConfig

CONFIG = ScalingConfig(max_replicas=40)
CAP = (40, Reason.AT_MAX_REPLICAS)


def test_the_terms_add_up() -> None:
    terms = reckon(CONFIG, Load(7_000, 300_000, 2_000, 4, None, 40), CAP)
    assert (terms.load_per_s, terms.backlog_per_s, terms.restart_per_s) == pytest.approx((10_000, 1_000, 700))
    assert (terms.wanted, terms.wanted_down) == (6, 6)
    assert terms.utilization == pytest.approx(0.875)


def test_the_pause_of_a_change_counts_before_scaling_down() -> None:
    terms = reckon(CONFIG, Load(2_800, 0, 2_000, 4, None, 40), CAP)
    assert (terms.wanted, terms.wanted_down) == (2, 3)


def test_it_never_sticks_one_below() -> None:
    """A tolerance of 10 %, as an autoscaler's, would leave 40 sinks at 39."""
    for wanted in range(1, 41):
        offered = 0.7 * 1_000 * (wanted - 1) + 1
        assert reckon(CONFIG, Load(offered, 0, 1_000, wanted, None, 40_000), CAP).wanted == wanted


@pytest.mark.parametrize(
    ("offered_per_s", "wanted"),
    [(6_000, 5), (7_000, 8), (13_600, 10), (14_000, 10), (0, 0)],
    ids=["even enough", "one has two", "just", "no number helps", "idle"],
)
def test_the_fullest_sink_counts(offered_per_s: float, wanted: int) -> None:
    """8 partitions, 2,000/s a sink: 5, 6 and 7 sinks are as full as 4, as one of them has two partitions."""
    terms = reckon(CONFIG, Load(offered_per_s, 0, 2_000, 5, None, 8), CAP)
    assert terms.wanted == wanted
    assert terms.utilization == pytest.approx(offered_per_s * 2 / 8 / 2_000)


def test_without_a_partition_nothing_is_divided() -> None:
    assert reckon(CONFIG, Load(1_000, 0, 2_000, 0, None, 0), CAP).utilization == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("budget_s", "catch_up_s"),
    [(None, 300), (10_000, 300), (300, 150), (10, 60)],
    ids=["unknown", "long", "short", "none"],
)
def test_a_short_outage_budget_shortens_the_catch_up(budget_s: float | None, catch_up_s: float) -> None:
    assert reckon(CONFIG, Load(0, 1, 1, 1, budget_s, 40), CAP).catch_up_s == catch_up_s


@pytest.mark.parametrize(
    ("partitions", "commit_s", "cap"),
    [
        (50, 0.0, (40, Reason.AT_MAX_REPLICAS)),
        (12, 0.1, (12, Reason.AT_PARTITIONS)),
        (0, 0.1, (1, Reason.AT_PARTITIONS)),
        (50, 10.0, (15, Reason.AT_COMMIT_TIME)),
        (50, 1_000.0, (1, Reason.AT_COMMIT_TIME)),
    ],
    ids=["maximum", "partitions", "no partition", "slow commits", "slowest commits"],
)
def test_what_bounds_replicas(partitions: int, commit_s: float, cap: tuple[int, Reason]) -> None:
    assert replica_cap(CONFIG, partitions, commit_s) == cap


@pytest.mark.parametrize(
    ("current_s", "replicas", "commit_s", "interval_s"),
    [
        (None, 1, 0.1, 10),
        (10, 10, 1.0, 20),
        (20, 8, 1.0, 20),
        (20, 6, 1.0, 12),
        (20, 1, 0.1, 10),
        (10, 100, 9.0, 300),
    ],
    ids=["first", "lengthened at once", "not for a little less", "for much less", "never below its own", "at most"],
)
def test_the_commit_interval(current_s: float | None, replicas: int, commit_s: float, interval_s: float) -> None:
    assert commit_interval_s(CONFIG, current_s, replicas, commit_s) == interval_s
