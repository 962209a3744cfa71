"""k2_cli.interrupts with real signals to this process."""

from __future__ import annotations

import os
import signal
import time

import pytest

from k2_cli.interrupts import Interrupts


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # a handler runs between two instructions of the main thread


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_while_starting_a_signal_interrupts(number: signal.Signals) -> None:
    interrupts = Interrupts()
    with interrupts.installed(), pytest.raises(KeyboardInterrupt):
        send(number)
    assert not interrupts.asked.is_set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_while_running_the_first_one_asks_and_the_second_interrupts(number: signal.Signals) -> None:
    interrupts = Interrupts()
    with interrupts.installed(), interrupts.patient():
        send(number)
        assert interrupts.asked.is_set()
        with pytest.raises(KeyboardInterrupt):
            send(number)


def test_while_stopping_another_one_interrupts() -> None:
    interrupts = Interrupts()
    with interrupts.installed():
        with interrupts.patient():
            send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts().installed():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
