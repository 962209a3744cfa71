"""A real, empty Prometheus on loopback for tests of PromQL: it parses and runs each query as a dashboard's would be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from k2_cli.stack import ports
from k2_cli.stack.process import ManagedProcess
from support.chart import tool

_START_TIMEOUT_S: Final = 30.0
_CONFIGURATION: Final = "global: {scrape_interval: 1m}\n"


@contextmanager
def running(directory: Path) -> Iterator[httpx.Client]:
    """Run a server whose data is below the directory; yields a client of its HTTP API."""
    port = ports.find_free(f"prometheus {directory}")
    configuration = directory / "prometheus.yml"
    configuration.write_text(_CONFIGURATION)
    server = ManagedProcess(
        name="prometheus",
        command=[
            tool("prometheus"),
            f"--config.file={configuration}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={ports.LOOPBACK}:{port}",
        ],
        log=directory / "prometheus.log",
    )
    server.start()
    try:
        with httpx.Client(base_url=f"http://{ports.LOOPBACK}:{port}", timeout=10) as client:
            server.wait_ready(lambda: _ready(client), timeout_s=_START_TIMEOUT_S)
            yield client
    finally:
        server.stop()


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").is_success
    except httpx.TransportError:
        return False
