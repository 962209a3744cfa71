"""What the storm must not take for a success: a controller without figures, a sink that never acted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry, Gauge, start_http_server
from storm import acted_s

from k2_core.errors import SetupError
from support.controller_process import Controller, figure_in

PAGE = """# HELP k2_controller_level The level
k2_controller_level_seconds 7.0
k2_controller_level 3.0
k2_controller_sinks{is="wanted"} 2.0
"""


@contextmanager
def controller(level: float | None) -> Iterator[Controller]:
    registry = CollectorRegistry()
    if level is not None:
        Gauge("k2_controller_level", "The level", registry=registry).set(level)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        yield Controller(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("level", [0.0, 3.0])
def test_a_figure_is_read(level: float) -> None:
    with controller(level) as asked:
        assert asked.figure("k2_controller_level") == level


def test_a_figure_that_is_missing_is_no_zero() -> None:
    with controller(None) as asked, pytest.raises(SetupError, match="has no figure k2_controller_level, expected one"):
        asked.figure("k2_controller_level")


def test_a_figure_is_found_by_its_whole_name() -> None:
    names = ("k2_controller_level", 'k2_controller_sinks{is="wanted"}', "k2_controller", "k2_controller_sinks")
    assert [figure_in(PAGE, name) for name in names] == [3.0, 2.0, None, None]


def test_the_first_rise_counts() -> None:
    assert acted_s([(0.5, 0), (1.5, 2), (3.0, 3)], 0) == 1.5


@pytest.mark.parametrize("levels", [[], [(1.0, 0)]])
def test_a_sink_that_never_acted_is_a_failure(levels: list[tuple[float, int]]) -> None:
    with pytest.raises(SetupError, match="expected one above 0"):
        acted_s(levels, 0)
