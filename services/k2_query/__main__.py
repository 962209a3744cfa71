"""The process `python -m k2_query`: settings and pipeline in, the API until SIGTERM, exit 0."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import sys
from typing import Final

import uvicorn

from k2_core.config import read_settings
from k2_core.errors import K2Error, SetupError
from k2_core.exits import last_word
from k2_core.logs import configure
from k2_core.spec import load_pipeline
from k2_query.app import create_app
from k2_query.auth import key_ring
from k2_query.runner import Runner
from k2_query.runtime import Runtime
from k2_query.settings import QuerySettings

DRAIN_S: Final = 10
"""For answers under way when SIGTERM comes: the default time-out of a query."""
KEEP_ALIVE_S: Final = 75
"""Longer than the 60 s after which load balancers drop an idle connection, so that it is never this end that does."""
_BACKLOG: Final = 1024
SWITCH_INTERVAL_S: Final = 0.001
"""How long a thread may keep the interpreter while others want it; Python's 5 ms would be seen in the answers' p99."""
_log = logging.getLogger("k2_query")


def main() -> int:
    """Run the service; returns the exit code."""
    try:
        settings = read_settings(QuerySettings)
        configure("k2-query", settings.log_level)
        pipeline = load_pipeline(settings.pipeline_file)
        app = create_app(
            Runtime(settings, pipeline),
            key_ring(settings),
            Runner(settings.query_concurrency, settings.query_timeout_s),
        )
        listener = _listen(settings.listen_host, settings.port_for(pipeline.spec.query))
    except K2Error as error:
        return last_word("k2-query", error)
    spare_pauses()
    host, port = listener.getsockname()[:2]
    _log.info("listening", extra={"host": host, "port": port})
    _serve(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=DRAIN_S,
            timeout_keep_alive=KEEP_ALIVE_S,
        ),
        listener,
    )
    return 0


def spare_pauses() -> None:
    """Keep the interpreter's own pauses out of the answers' p99.

    What the libraries made while they were imported lives as long as the process. The garbage collector looked through
    these 160,000 objects about once in 50 queries and stopped everything for 90 to 140 ms; frozen, it leaves them out.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound, so that the port is known, and a taken one is one clear line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SetupError(f"API port: found {host}:{port} in use ({error.strerror}), expected it free") from error
    listener.listen(_BACKLOG)
    return listener


def _serve(config: uvicorn.Config, listener: socket.socket) -> None:
    """Serve until a signal. The server raises it again once it has drained; here that is a normal end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
