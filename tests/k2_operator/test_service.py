"""The operator as a process: when it calls itself not live, and when it does not start."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from support.held_wire import HeldWire
from support.operated import Operated

pytestmark = pytest.mark.kafka


@pytest.fixture
def wire(operated: Operated) -> Iterator[HeldWire]:
    with HeldWire(operated.control_plane.server) as made:
        operated.api_port = made.port
        yield made


class TestLiveness:
    def test_watches_that_hang_make_it_not_live_until_they_are_answered_again(
        self, operated: Operated, wire: HeldWire
    ) -> None:
        operated.start(watchSeconds=2)
        operated.apply()
        operated.wait(lambda: operated.phase() == "Pending", "a reconcile")
        assert operated.probe("livez") == 200
        wire.hold()
        operated.wait(lambda: operated.probe("livez") == 503, "a word about it")
        assert "no answer for" in operated.complaint("livez")
        assert operated.metrics()["k2_operator_watch_age_seconds"] > 0
        wire.release()
        operated.wait(lambda: operated.probe("livez") == 200, "watches that are answered")
        operated.apply(suspend=True)
        operated.wait(lambda: operated.phase() == "Suspended", "work that goes on")

    def test_a_reconcile_that_hangs_makes_it_not_live_until_it_goes_on(
        self, operated: Operated, wire: HeldWire
    ) -> None:
        operated.start(reconcileLimitSeconds=1)
        operated.apply("first")
        operated.wait(lambda: operated.phase("first"), "a watch of pipelines")
        wire.hold("up")  # events still arrive, writes do not
        operated.apply()
        operated.wait(lambda: operated.probe("livez") == 503, "a word about it")
        assert "found a reconcile that takes" in operated.complaint("livez")
        assert "no answer for" not in operated.complaint("livez")
        wire.release()
        operated.wait(lambda: operated.probe("livez") == 200, "a reconcile that goes on")
        operated.wait(lambda: operated.phase() == "Pending", "its end")


class TestStop:
    def test_sigterm_before_anything_is_known_is_a_clean_stop(self, operated: Operated, wire: HeldWire) -> None:
        wire.hold()
        process = operated.launch()
        operated.wait(lambda: operated.probe("readyz") == 503, "an operator that waits for its API server")
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0
        assert '"message": "stopped"' in operated.log()
