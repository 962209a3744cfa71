"""A Maven repository on loopback with tiny jars, for tests of the download."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from k2_cli.stack.artifacts import Jar


class Repository:
    """What the server serves; tests change it while it runs."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.truncated: set[str] = set()
        """Paths whose answer breaks off in the middle."""
        self.requests: Counter[str] = Counter()
        self.url = ""

    def add(self, coordinate: str, content: bytes, dependencies: str = "") -> Jar:
        """Publishes a jar and its POM; returns the lock entry."""
        group, artifact, version = coordinate.split(":")
        base = f"{group.replace('.', '/')}/{artifact}/{version}/{artifact}-{version}"
        pom = (
            "<project><modelVersion>4.0.0</modelVersion>"
            f"<groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"
            f"<dependencies>{dependencies}</dependencies></project>"
        )
        self.files |= {f"{base}.jar": content, f"{base}.pom": pom.encode()}
        return Jar(coordinate, len(content), hashlib.sha256(content).hexdigest())

    def jar_requests(self) -> int:
        """How many jars were asked for."""
        return sum(count for path, count in self.requests.items() if path.endswith(".jar"))


@contextmanager
def serve() -> Iterator[Repository]:
    """Serves an empty repository on a free port of 127.0.0.1."""
    repository = Repository()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            repository.requests[path] += 1
            content = repository.files.get(path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if content:
                self.wfile.write(content[: len(content) // 2] if path in repository.truncated else content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the standard library's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        repository.url = f"http://127.0.0.1:{server.server_port}"
        yield repository
        server.shutdown()
        thread.join()
