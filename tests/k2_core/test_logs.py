"""Log lines as JSON, with the correlation id of the thread or task that they come from."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from k2_core.logs import JsonFormatter, configure, correlation, current_correlation_id


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    quiet = logging.getLogger("pyiceberg.io")
    quiet_level = quiet.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    quiet.setLevel(quiet_level)


def line(record: logging.LogRecord) -> dict[str, Any]:
    text = JsonFormatter("k2-test").format(record)
    assert "\n" not in text
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def record(message: str = "hello %s", *args: object, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "k2_sink.commit", "levelno": 20, "levelname": "INFO", "msg": message})
    made.args = args or None
    made.created = datetime(2026, 1, 5, 9, 30, 0, 123456, tzinfo=UTC).timestamp()
    vars(made).update(extra)
    return made


class TestFormat:
    def test_a_line(self) -> None:
        assert line(record("hello %s", "world")) == {
            "time": "2026-01-05T09:30:00.123+00:00",
            "level": "INFO",
            "service": "k2-test",
            "logger": "k2_sink.commit",
            "message": "hello world",
        }

    def test_extra_becomes_fields(self) -> None:
        found = line(record("committed", rows=5, topic="t"))
        assert (found["rows"], found["topic"]) == (5, "t")

    def test_extra_that_is_no_json_becomes_text(self) -> None:
        assert line(record("x", at=datetime(2026, 1, 5, tzinfo=UTC)))["at"] == "2026-01-05 00:00:00+00:00"

    def test_an_exception_is_part_of_the_line(self) -> None:
        made = record("failed")
        try:
            int("three")
        except ValueError:
            made.exc_info = sys.exc_info()
        exception = line(made)["exception"]
        assert "Traceback" in exception
        assert "ValueError: invalid literal" in exception

    def test_several_lines_stay_one(self) -> None:
        assert line(record("one\ntwo"))["message"] == "one\ntwo"


class TestCorrelation:
    def test_none_outside(self) -> None:
        assert current_correlation_id() is None
        assert "correlation_id" not in line(record("x"))

    def test_a_given_one(self) -> None:
        with correlation("request-7") as found:
            assert found == "request-7"
            assert line(record("x"))["correlation_id"] == "request-7"
        assert current_correlation_id() is None

    def test_a_new_one_each_time(self) -> None:
        with correlation() as first, correlation() as second:
            assert current_correlation_id() == second
        assert first != second
        assert len(first) == 32

    def test_the_outer_one_comes_back_even_after_an_error(self) -> None:
        def fail() -> None:
            with correlation("inner"):
                raise ValueError("x")

        with correlation("outer"):
            with pytest.raises(ValueError, match="x"):
                fail()
            assert current_correlation_id() == "outer"

    def test_threads_and_tasks_have_their_own(self) -> None:
        seen: list[str | None] = []

        async def work(name: str) -> str | None:
            with correlation(name):
                await asyncio.sleep(0)
                return current_correlation_id()

        async def both() -> list[str | None]:
            return list(await asyncio.gather(work("a"), work("b")))

        with correlation("main"):
            thread = threading.Thread(target=lambda: seen.append(current_correlation_id()))
            thread.start()
            thread.join()
        assert (seen, asyncio.run(both())) == ([None], ["a", "b"])


@pytest.mark.usefixtures("restored_logging")
class TestConfigure:
    def test_lines_go_to_stderr_from_the_level_on(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure("k2-sink", "WARNING")
        logging.getLogger("k2_sink").info("not shown")
        logging.getLogger("k2_sink").warning("shown")
        out, err = capsys.readouterr()
        assert (out, [json.loads(text)["message"] for text in err.splitlines()]) == ("", ["shown"])

    def test_a_second_call_replaces_the_first(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure("k2-one", "INFO")
        configure("k2-two", "INFO")
        logging.getLogger("x").info("once")
        assert [json.loads(text)["service"] for text in capsys.readouterr().err.splitlines()] == ["k2-two"]

    def test_pyiceberg_is_kept_from_chatting(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure("k2-sink", "INFO")
        logging.getLogger("pyiceberg.io").info("Loaded FileIO")
        assert capsys.readouterr().err == ""

    def test_in_a_process_of_its_own(self) -> None:
        code = "import logging, k2_core.logs as k; k.configure('s', 'INFO'); logging.info('hi', extra={'n': 1})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert (done.stdout, json.loads(done.stderr)["n"]) == ("", 1)
