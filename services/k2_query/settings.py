"""The query service's settings: the environment `K2_*` and, for the port, the pipeline file.

Read once in `__main__`. Behaviour that belongs to the pipeline (`tailMaxBytes`, `commitLagSeconds`) is in the pipeline
file, not here.
"""

from __future__ import annotations

import tempfile
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr

from k2_core.config import ServiceSettings
from k2_core.spec import QuerySpec

DEVELOPMENT_KEY: Final = "k2-dev-api-key-2026"
"""Well known, so it opens nothing but a laptop's own loopback, see `accepts_development_key`."""


class QuerySettings(ServiceSettings):
    """Beyond what every service needs: who may ask, and what one question may cost."""

    port: int | None = Field(default=None, ge=0, le=65535)
    """The API's port; 0 means any free one, None the pipeline's `spec.query.port`."""
    api_keys: SecretStr | None = None
    """`id.secret` pairs, comma separated. The id may be logged, the secret never is."""
    embedded: bool = False
    """The laptop's mode, in which `k2 up` starts everything on one machine."""
    query_timeout_s: float = Field(default=10.0, gt=0, le=300)
    """Seconds until a query is interrupted; K2 is for reads under 500 ms, so one that takes this long is a mistake."""
    query_memory_bytes: int = Field(default=512 * 1024 * 1024, ge=64 * 1024 * 1024)
    """What DuckDB may use for all queries together; nothing is spilled to disk."""
    query_cache_dir: Path = Path(tempfile.gettempdir()) / "k2-query-cache"
    """Where files of object storage are kept while the process runs; not used with a warehouse on a disk."""
    query_cache_bytes: int = Field(default=2 * 1024**3, ge=1024 * 1024)
    """Of these files together; a query that needs more at once is refused."""
    trino_url: str | None = None
    """Of the Trino that `spec.query.mode: distributed` reads with; the others of this name are of it, too."""
    trino_catalog: str = "k2"
    trino_user: str = "k2"
    trino_password: SecretStr | None = None
    trino_token: SecretStr | None = None
    """A JSON web token, instead of a password."""
    trino_ca_file: Path | None = None
    """PEM file of the CA that signed Trino's certificate; None means those that Mozilla trusts."""
    query_concurrency: int = Field(default=4, ge=1, le=64)
    """Queries that run at once; others wait for their turn within their timeout."""

    def accepts_development_key(self) -> bool:
        """Whether the well-known key opens this service: embedded, and listening on loopback only."""
        return self.embedded and is_loopback(self.listen_host)

    def port_for(self, spec: QuerySpec) -> int:
        """Return the port to listen on."""
        return spec.port if self.port is None else self.port


def is_loopback(host: str | None) -> bool:
    """Whether an address, or the name `localhost`, never leaves the machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False
