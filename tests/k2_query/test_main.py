"""The process: it starts, answers, drains and ends as the contract of services says."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from k2_query.__main__ import SWITCH_INTERVAL_S, spare_pauses
from k2_query.settings import DEVELOPMENT_KEY
from support.query import BASE, World, make_records
from support.waiting import wait_until

pytestmark = pytest.mark.kafka


def environment_of(world: World, **more: str) -> dict[str, str]:
    world.settings.pipeline_file.write_text(yaml.safe_dump(world.document()), encoding="utf-8")
    (world.folder / "warehouse").mkdir(exist_ok=True)
    return os.environ | {
        "K2_PIPELINE_FILE": str(world.settings.pipeline_file),
        "K2_KAFKA_BOOTSTRAP_SERVERS": world.bootstrap_servers,
        "K2_CATALOG_URI": f"sqlite:///{world.folder}/catalog.db",
        "K2_WAREHOUSE": f"file://{world.folder}/warehouse",
        "K2_EMBEDDED": "true",
        "K2_PORT": "0",
        **more,
    }


@contextmanager
def running(environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as errors:
        child = subprocess.Popen([sys.executable, "-m", "k2_query"], env=environment, stderr=errors)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def port_of(child: subprocess.Popen[bytes], log: Path) -> int:
    def listening() -> int | None:
        assert child.poll() is None, log.read_text(encoding="utf-8")
        whole = log.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
        lines = [json.loads(line) for line in whole if line.startswith("{")]
        return next((int(line["port"]) for line in lines if line["message"] == "listening"), None)

    found = wait_until(listening, "the port", timeout_s=60)
    assert isinstance(found, int)
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_serves_until_it_is_told_to_stop_and_exits_0(world: World, tmp_path: Path, number: signal.Signals) -> None:
    world.create_topic()
    world.produce(make_records("BTCUSDT", 1, 5, BASE))
    log = tmp_path / "log"
    with running(environment_of(world), log) as child:
        base_url = f"http://127.0.0.1:{port_of(child, log)}"
        with httpx.Client(base_url=base_url, headers={"X-API-Key": DEVELOPMENT_KEY}, timeout=20) as client:
            wait_until(lambda: client.get("/health").status_code == 200, "health")
            assert [httpx.get(f"{base_url}/{path}").status_code for path in ("livez", "readyz")] == [200, 200]
            wait_until(
                lambda: len(client.get("/v1/trades", params={"symbol": "BTCUSDT"}).json()["data"]) == 5, "the records"
            )
        child.send_signal(number)
        assert child.wait(timeout=20) == 0
    text = log.read_text(encoding="utf-8")
    assert DEVELOPMENT_KEY not in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"K2_EMBEDDED": "false"}, "K2_API_KEYS: found no key"),
        ({"K2_QUERY_TIMEOUT_S": "never"}, "K2_QUERY_TIMEOUT_S: found an unusable environment variable"),
        ({"K2_PIPELINE_FILE": "/nowhere.yaml"}, "expected a readable UTF-8 file"),
        ({"K2_WAREHOUSE": "gs://bucket"}, "K2_WAREHOUSE: found 'gs://bucket'"),
        ({"K2_WAREHOUSE": "s3://bucket", "K2_QUERY_CACHE_DIR": "/proc/x"}, "K2_QUERY_CACHE_DIR: found /proc/x ("),
    ],
    ids=["no-key", "setting", "pipeline", "warehouse", "cache"],
)
def test_a_wrong_setting_is_one_line_and_exit_2(world: World, changes: dict[str, str], expected: str) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "k2_query"], env=environment_of(world, **changes), capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert found.returncode == 2
    assert expected in found.stderr.decode()
    assert "Traceback" not in found.stderr.decode()


def test_what_was_imported_is_out_of_the_collector_s_sight() -> None:
    before = sys.getswitchinterval()
    try:
        spare_pauses()
        assert gc.get_freeze_count() > 50_000
        assert abs(sys.getswitchinterval() - SWITCH_INTERVAL_S) < 1e-6
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before)


def test_a_port_in_use_is_one_line_and_exit_3(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = subprocess.run(
            [sys.executable, "-m", "k2_query"], env=environment_of(world, K2_PORT=str(port)), capture_output=True,
            timeout=60, check=False,
        )  # fmt: skip
    assert found.returncode == 3
    assert f"API port: found 127.0.0.1:{port} in use" in found.stderr.decode()
