"""A real S3 server on loopback for tests: versitygw over a folder, started once a session. The fixture is `s3`."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from k2_cli.stack import ports
from k2_cli.stack.process import ManagedProcess
from onenode.tools import tool
from support.lacking import needed

ACCESS_KEY: Final = "k2-test-access"
SIGNING_KEY: Final = "k2-test-signing"
_START_TIMEOUT_S: Final = 30.0


@dataclass
class LocalS3:
    """One server on 127.0.0.1 whose buckets are folders; `stop` and `start` are an outage.

    Args:
        directory: Where buckets and log lie.
    """

    directory: Path
    port: int = 0
    _process: ManagedProcess | None = field(default=None, repr=False)

    @property
    def endpoint(self) -> str:
        """URL of the server."""
        return f"http://{ports.LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Start it and return when it answers; again on the same port.

        Raises:
            SetupError: It cannot be had, or did not start.
        """
        self.port = self.port or ports.find_free(str(self.directory))
        buckets = self.directory / "buckets"
        buckets.mkdir(exist_ok=True)
        command = [str(tool("versitygw")), "--quiet", "--port", f"{ports.LOOPBACK}:{self.port}", "posix", str(buckets)]
        keys = {"ROOT_ACCESS_KEY_ID": ACCESS_KEY, "ROOT_SECRET_ACCESS_KEY": SIGNING_KEY}
        log = self.directory / "s3.log"
        self._process = ManagedProcess(name="the S3 server", command=command, log=log, env=os.environ | keys)
        self._process.start()
        self._process.wait_ready(self._answers, timeout_s=_START_TIMEOUT_S)

    def stop(self) -> None:
        """Stop it; may be called at any time."""
        if self._process is not None:
            self._process.stop()

    def bucket(self) -> str:
        """Make a bucket and return its name."""
        name = f"lake-{uuid.uuid4().hex[:12]}"
        (self.directory / "buckets" / name).mkdir()
        return name

    def environment(self, bucket: str) -> dict[str, str]:
        """Return the variables that name a warehouse in a bucket."""
        return {
            "K2_WAREHOUSE": f"s3://{bucket}/warehouse",
            "K2_S3_ENDPOINT": self.endpoint,
            "K2_S3_ACCESS_KEY": ACCESS_KEY,
            "K2_S3_SECRET_KEY": SIGNING_KEY,
        }

    def _answers(self) -> bool:
        try:
            httpx.get(self.endpoint, timeout=2)
        except httpx.TransportError:
            return False
        return True


def start_or_skip(server: LocalS3) -> None:
    """Start the server; a machine that cannot is a failure under CI, else a skip that says what is missing."""
    with needed("an S3 server"):
        server.start()
