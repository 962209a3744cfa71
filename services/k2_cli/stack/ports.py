"""Loopback TCP ports: which are free, and who holds one that is not.

Called by `k2_cli.stack.kafka` and `k2 up`. It never keeps a port: between asking and binding another program may take
it, and then the server's own message says so.
"""

from __future__ import annotations

import contextlib
import socket
import zlib

import psutil

LOOPBACK = "127.0.0.1"
_FIRST, _COUNT = 20_000, 12_000
"""Below the range that Linux (32768 and up) and macOS (49152 and up) give to outgoing connections: such a port is
still free after a restart."""


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port in TIME_WAIT counts as free, one with a listener does not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def find_free(seed: str, *, avoid: frozenset[int] = frozenset()) -> int:
    """A free port, the same for the same seed as long as it is free.

    Args:
        seed: Spreads callers over the range; a folder's path for instance.
        avoid: Ports that will be taken by the caller itself.

    Raises:
        StopIteration: Never in practice: 12,000 ports would have to be taken.
    """
    start = zlib.crc32(seed.encode())
    candidates = (_FIRST + (start + step) % _COUNT for step in range(_COUNT))
    return next(port for port in candidates if port not in avoid and is_free(port))


def holder(port: int) -> str:
    """Who listens on the port: `process 4711 (java)`, or `another program` where the system does not tell us."""
    # Other users' sockets are hidden from a normal user, and macOS asks for root.
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if listens and connection.pid:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return "another program"
