"""The process around the sink: exit statuses, one line for what is wrong, patience at the start."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from k2_cli.stack import ports
from k2_core.control import CONTROL_TOPIC
from k2_core.sink_report import SinkReport
from k2_core.types import Level
from support.records import encode, make_trades
from support.sink import NAME, SinkProcess, SinkWorkspace
from support.waiting import wait_until

pytestmark = pytest.mark.kafka


def test_a_pipeline_file_that_is_wrong_is_one_line_and_exit_status_2(work: SinkWorkspace) -> None:
    environment = work.environment()
    Path(environment["K2_PIPELINE_FILE"]).write_text("kind: K2Pipeline\nspec: {ingestion: 7}\n")
    sink = SinkProcess(environment, work.folder / "wrong.log")
    assert sink.wait() == 2
    assert len(sink.log.read_text().splitlines()) == 1
    assert "expected" in sink.log.read_text()


def test_a_variable_that_is_wrong_is_named_and_exit_status_2(work: SinkWorkspace) -> None:
    sink = work.start(K2_METRICS_PORT="many")
    assert sink.wait() == 2
    assert "K2_METRICS_PORT" in sink.log.read_text()


def test_a_log_that_lost_what_the_table_needs_is_refused_with_exit_status_5(work: SinkWorkspace) -> None:
    trades = make_trades(100, symbols=("BTCUSDT",), seed=8)
    for trade in trades[:50]:
        work.produce_value(encode(trade))
    assert work.producer.flush(30) == 0
    work.run_to_end()
    for trade in trades[50:]:
        work.produce_value(encode(trade))
    assert work.producer.flush(30) == 0
    admin = AdminClient({"bootstrap.servers": work.bootstrap_servers})
    where = TopicPartition(work.topic, 0, 70)
    admin.delete_records([where])[where].result(30)
    sink = work.start(K2_SINK_STOP_AT_END="true")
    assert sink.wait() == 5, sink.log.read_text()
    assert "expected it to hold offset 50" in sink.lines[-1]["message"]
    assert f"`k2 adopt-topic {work.topic}`" in sink.lines[-1]["message"]
    assert work.committed() == 50


def test_a_catalog_that_comes_late_is_waited_for(work: SinkWorkspace) -> None:
    trades = make_trades(100, symbols=("BTCUSDT",), seed=9)
    work.produce(trades)
    catalog = work.folder / "catalog.db"
    catalog.mkdir()  # SQLite cannot open a folder: the catalog is away
    sink = work.start()
    sink.wait_said("start: will be tried again")
    catalog.rmdir()
    wait_until(lambda: work.committed() == 100, "the trades to be committed")
    assert [sink.get(path).status_code for path in ("/livez", "/readyz")] == [200, 200]
    assert sink.terminate() == 0
    work.check(trades)


def test_a_control_topic_that_is_deleted_is_said_and_the_level_stays(work: SinkWorkspace) -> None:
    work.spec = {"degradation": {"mode": "Auto"}}
    work.set_level(2)
    sink = work.start()
    wait_until(lambda: sink.metric("k2_degradation_level") == 2, "the level")
    wait_until(lambda: sink.get("/health").status_code == 200, "a sink at ease")
    client = AdminClient({"bootstrap.servers": work.bootstrap_servers})
    client.delete_topics([CONTROL_TOPIC])[CONTROL_TOPIC].result(30)
    wait_until(lambda: sink.get("/health").status_code == 503, "a sink that says so")
    assert "control topic k2.control: found " in sink.get("/health").json()["checks"]["control"]
    assert sink.metric("k2_control_trouble") == 1
    assert sink.get("/readyz").status_code == 200  # it goes on
    assert sink.metric("k2_degradation_level") == 2
    work.set_level(1)
    wait_until(lambda: sink.metric("k2_degradation_level") == 1, "the next level")
    wait_until(lambda: sink.get("/health").status_code == 200, "a sink at ease again")


def test_what_it_was_commanded_is_told_apart_from_what_it_raised_itself_to(work: SinkWorkspace) -> None:
    levels = {"soft": {"enterMemoryRatio": 0.001}}  # any process has more
    work.spec = {"degradation": {"mode": "Auto", "levels": levels}}
    sink = work.start()

    def told() -> set[tuple[Level, Level]]:
        signals = work.admin.group_signals(f"k2.{work.namespace}.{NAME}.sink", work.topic)
        reports = [SinkReport.parse(text) for _, text in signals.values()]
        return {(one.level, one.own_level) for one in reports if one is not None}

    wait_until(lambda: told() == {(Level.NORMAL, Level.SOFT)}, "a level of its own")
    assert sink.metric("k2_degradation_level") == 1
    work.set_level(2)
    wait_until(lambda: told() == {(Level.GRACEFUL, Level.SOFT)}, "the commanded level")
    assert sink.metric("k2_degradation_level") == 2


def test_without_a_controller_a_control_topic_is_not_asked_for(work: SinkWorkspace) -> None:
    sink = work.start()
    assert "control" not in sink.get("/health").json()["checks"]


def test_a_stop_ends_the_wait_for_a_catalog(work: SinkWorkspace) -> None:
    (work.folder / "catalog.db").mkdir()
    port, message = ports.find_free(str(work.folder)), work.folder / "termination-log"
    sink = work.start(K2_METRICS_PORT=str(port), K2_TERMINATION_MESSAGE_PATH=str(message))
    sink.wait_said("start: will be tried again")
    answers = {path: httpx.get(f"http://127.0.0.1:{port}/{path}") for path in ("livez", "readyz")}
    assert {path: answer.status_code for path, answer in answers.items()} == {"livez": 200, "readyz": 503}
    assert sink.terminate() == 3
    assert "catalog" in sink.lines[-1]["message"]
    assert message.read_text().startswith("k2-sink: catalog: found ")
