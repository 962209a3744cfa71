"""A wire between a client and a server that can be held: connections stay open and look alive, but nothing arrives."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

_CHUNK: Final = 65536


class HeldWire:
    """A TCP proxy on loopback.

    Args:
        server: URL of where it leads to.
    """

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        self._server = str(parts.hostname), int(parts.port or 443)
        self._flows = {"up": threading.Event(), "down": threading.Event()}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.port = int(self._listener.getsockname()[1])
        self.release()

    def __enter__(self) -> HeldWire:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def hold(self, *directions: str) -> None:
        """Let nothing through, or only nothing `up` to the server; what is sent waits."""
        for direction in directions or self._flows:
            self._flows[direction].clear()

    def release(self) -> None:
        """Let all through, what waited first."""
        for flow in self._flows.values():
            flow.set()

    def cut(self) -> None:
        """End all connections; new ones are taken."""
        for one in self._sockets:
            with contextlib.suppress(OSError):  # it ended already
                one.shutdown(socket.SHUT_RDWR)

    def _start(self, work: object, *arguments: object) -> None:
        assert callable(work)
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server, 10)
                server.settimeout(None)
                self._sockets += [client, server]
                self._start(self._pump, client, server, self._flows["up"])
                self._start(self._pump, server, client, self._flows["down"])

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, flow: threading.Event) -> None:
        with source, contextlib.suppress(OSError):  # one of the two ended
            while data := source.recv(_CHUNK):
                flow.wait()
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
