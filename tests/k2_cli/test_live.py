"""k2_cli.live."""

from __future__ import annotations

import pytest

from k2_cli.live import Figures, LiveFigures, age, line, sinks_wanted
from k2_cli.scrape import Sample

NOW = 1_700_000_000.0


def sample(**values: float) -> Sample:
    return Sample({(name, ()): value for name, value in values.items()})


def ingest(messages: float, missing: float = 0) -> Sample:
    return sample(k2_ingest_messages_received_total=messages, k2_ingest_sequence_missing=missing)


def sink(rows: float, *, unread: float = 0, newest: float = 0, level: float = 0) -> Sample:
    return sample(
        k2_sink_rows_committed_total=rows,
        k2_sink_unread_lag_records=unread,
        k2_sink_newest_committed_timestamp_seconds=newest,
        k2_degradation_level=level,
    )


def test_nothing_read_is_nothing_known() -> None:
    assert LiveFigures().update({"sink-0": None}, 1.0, NOW) == Figures()


def test_rates_need_two_readings() -> None:
    figures = LiveFigures()
    assert figures.update({"i": ingest(100)}, 10.0, NOW).messages_per_s is None
    assert figures.update({"i": ingest(350)}, 12.0, NOW).messages_per_s == 125
    assert figures.update({"i": ingest(350)}, 12.0, NOW).messages_per_s is None  # no time has passed


def test_sums_and_extremes_over_processes() -> None:
    samples = {
        "ingest-a": ingest(10, missing=2),
        "ingest-b": ingest(5, missing=3),
        "sink-0": sink(70, unread=4, newest=NOW - 9, level=1),
        "sink-1": sink(30, unread=6, newest=NOW - 5, level=2),
        "query": None,
    }
    figures = LiveFigures().update(samples, 1.0, NOW)
    assert figures.rows_committed == 100
    assert figures.unread_records == 10
    assert figures.newest_row_age_s == 5
    assert figures.gaps == 5
    assert figures.level == 2


def test_a_restarted_process_loses_nothing() -> None:
    figures = LiveFigures()
    figures.update({"sink-0": sink(100)}, 1.0, NOW)
    figures.update({"sink-0": None}, 2.0, NOW)
    assert figures.update({"sink-0": sink(7)}, 3.0, NOW).rows_committed == 107
    assert figures.update({"sink-0": sink(9)}, 4.0, NOW).rows_committed == 109


def test_before_the_first_commit_the_newest_row_is_unknown() -> None:
    assert LiveFigures().update({"sink-0": sink(0)}, 1.0, NOW).newest_row_age_s is None


def test_a_line_shows_unknown_as_unknown() -> None:
    assert line(Figures()) == "messages/s -  unread -  rows committed -  newest row -  gaps -  level -"
    full = Figures(1234.4, 0, 1_000_000, 2.34, 0, 0)
    assert line(full) == "messages/s 1,234  unread 0  rows committed 1,000,000  newest row 2.3 s ago  gaps 0  level 0"
    assert full.document()["rows_committed"] == 1_000_000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        pytest.param(2.34, "2.3 s", id="seconds"),
        pytest.param(119.9, "119.9 s", id="nearly two minutes"),
        pytest.param(2_700, "45 min", id="minutes"),
        pytest.param(25_200, "7 h", id="hours"),
        pytest.param(72_093_437, "834 d", id="days"),
    ],
)
def test_ages_have_the_unit_that_suits_them(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_how_many_sinks_the_controller_wants() -> None:
    ready = (("is", "ready"),)
    found = Sample({("k2_controller_sinks", (("is", "wanted"),)): 3.0, ("k2_controller_sinks", ready): 1.0})
    assert sinks_wanted(found) == 3
    assert sinks_wanted(Sample({("k2_controller_sinks", ready): 1.0})) is None
    assert sinks_wanted(None) is None
