"""One sink from the beginning of a topic to its end, as a process, and what it cost; for `sink` and `deferral`."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from k2_core.config import ServiceSettings
from k2_core.errors import SetupError


def settings_in(folder: Path, bootstrap_servers: str) -> ServiceSettings:
    """Return where Kafka is, with a lake in a folder."""
    return ServiceSettings.model_validate(
        {
            "kafka_bootstrap_servers": bootstrap_servers,
            "catalog_uri": f"sqlite:///{folder}/catalog.db",
            "warehouse": f"file://{folder}/warehouse",
        }
    )


def run_to_end(settings: ServiceSettings, pipeline_file: Path) -> tuple[dict[str, Any], resource.struct_rusage]:
    """Run a sink until all that is in the log is committed or deferred.

    Returns:
        Its last word, with `cpu_s` from its first read to its last commit, and what the whole process used.

    Raises:
        SetupError: It failed.
    """
    assert settings.catalog_uri is not None
    environment = {
        **os.environ,
        "K2_PIPELINE_FILE": str(pipeline_file),
        "K2_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "K2_CATALOG_URI": settings.catalog_uri.get_secret_value(),
        "K2_WAREHOUSE": settings.warehouse or "",
        "K2_SINK_STOP_AT_END": "true",
    }
    log = pipeline_file.with_name("sink.log")
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "k2_sink"], env=environment, stderr=stderr)
        _, status, usage = os.wait4(process.pid, 0)
    last: dict[str, Any] = json.loads(log.read_text().splitlines()[-1])
    if status != 0 or last["message"] != "sink stopped":
        raise SetupError(f"the sink failed: {last}")
    return last, usage
