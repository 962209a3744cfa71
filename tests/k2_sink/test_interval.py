"""When a batch is due: first early, then by the longest of what pipeline, controller and commits themselves ask for."""

from __future__ import annotations

import pytest

from k2_core.spec import SinkSpec
from k2_sink.interval import FIRST_INTERVAL_S, CommitInterval

SPEC = SinkSpec(commit_interval_seconds=10, commit_records=1_000, replicas=2)


class Sink:
    """A sink whose clock and controller a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.asked: float | None = None
        self.interval = CommitInterval(SPEC, lambda: self.asked, lambda: self.now_s)


def test_an_empty_batch_is_never_due() -> None:
    sink = Sink()
    sink.interval.note(empty=True)
    sink.now_s += 100
    assert sink.interval.idle
    assert not sink.interval.due(0)


def test_the_first_is_early_and_the_next_waits_its_interval() -> None:
    sink = Sink()
    sink.interval.note(empty=False)
    assert not sink.interval.due(1)
    sink.now_s += FIRST_INTERVAL_S
    assert sink.interval.due(1)
    sink.interval.took(0.1)
    sink.interval.begin()
    sink.interval.note(empty=False)
    sink.now_s += 9.9
    sink.interval.note(empty=False)  # only the first record begins it
    assert not sink.interval.due(1)
    sink.now_s += 0.1
    assert sink.interval.due(1)


@pytest.mark.parametrize(
    ("written_s", "waits_s"),
    [(3, 7), (6, 4), (8, 4), (60, 4)],
    ids=["what-is-left", "as-much-as-must-be", "never-less", "nor-later"],
)
def test_what_waited_while_a_batch_was_written_waits_no_whole_interval_more(written_s: float, waits_s: float) -> None:
    sink = Sink()
    sink.interval.took(0.1)
    sink.interval.close()
    sink.now_s += written_s
    sink.interval.begin()
    sink.interval.note(empty=False)
    sink.now_s += waits_s - 0.1
    assert not sink.interval.due(1)
    sink.now_s += 0.1
    assert sink.interval.due(1)


def test_what_comes_after_a_pause_waits_an_interval() -> None:
    sink = Sink()
    sink.interval.took(0.1)
    sink.interval.close()
    sink.interval.begin()
    sink.interval.note(empty=True)
    sink.now_s += 9
    sink.interval.note(empty=False)
    sink.now_s += 9.9
    assert not sink.interval.due(1)
    sink.now_s += 0.1
    assert sink.interval.due(1)


def test_enough_rows_do_not_wait() -> None:
    sink = Sink()
    sink.interval.note(empty=False)
    assert [sink.interval.due(rows) for rows in (999, 1_000)] == [False, True]


@pytest.mark.parametrize(
    ("commit_s", "asked", "seconds"),
    [(0.1, None, 10), (4.0, None, 16), (0.1, 25.0, 25), (0.1, 3.0, 10), (7.0, 25.0, 28)],
    ids=["the-pipelines", "slow-commits", "the-controllers", "never-below-the-pipelines", "the-longest"],
)
def test_the_longest_counts(commit_s: float, asked: float | None, seconds: float) -> None:
    sink = Sink()
    sink.asked = asked
    sink.interval.took(commit_s)
    assert sink.interval.seconds == seconds
