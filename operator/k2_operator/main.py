"""The operator's start: configuration, logs, and the loop until SIGTERM. Called by `__main__`."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from k2_core import logs
from k2_operator.config import load_config
from k2_operator.service import serve

_log = logging.getLogger(__name__)


def run(config_path: Path) -> int:
    """Run the operator; return 0 after SIGTERM.

    Raises:
        SpecError: The configuration is wrong.
        K2Error: It cannot go on.
    """
    config = load_config(config_path)
    logs.configure("k2-operator", config.log_level)
    asyncio.run(serve(config))
    _log.info("stopped")
    return 0
