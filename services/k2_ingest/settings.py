"""What an ingest process takes from its environment: `K2_INGEST_*` beside the variables of all services.

Read once, in `service`. Behaviour (venue, symbols, topics) comes from the pipeline file, not from here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from k2_core.config import ServiceSettings


class IngestSettings(ServiceSettings):
    """Settings of one ingest process."""

    ingest_source: str | None = None
    """Name of the source in the pipeline file; None takes the only one."""
    ingest_url: str | None = Field(default=None, pattern=r"^wss?://[^/\s]+$")
    """Base of the WebSocket endpoints in place of the pipeline file's: `ws://127.0.0.1:PORT` for K2's own exchange."""
    ingest_rest_url: str | None = Field(default=None, pattern=r"^https?://[^/\s]+$")
    """Base of the REST endpoints in place of the pipeline file's; None: those of `ingest_url`, if that is set."""
    ingest_ca_file: Path | None = None
    """PEM file of a CA for the venue's certificate; None trusts the system's."""
    ingest_time_unit: Literal["millisecond", "microsecond"] = "millisecond"
    """Unit of the times that the venue is asked for; milliseconds are the exchange's default."""
    ingest_stop_at_end: bool = False
    """End with 0 once K2's own exchange says that its replay is finished; a real exchange never does."""
    ingest_queue_records: int = Field(default=200_000, ge=1_000, le=1_000_000)
    """Records that may wait for Kafka before reading stops: some 60 MB, and minutes of an outage."""
    ingest_flush_timeout_s: float = Field(default=30.0, gt=0)
    """On stop, time for Kafka to acknowledge the rest; below a pod's grace period of 60 s."""
    ingest_stale_after_s: float = Field(default=45.0, gt=0)
    """A silent connection is replaced after this; the exchange pings every 20 s."""
    ingest_symbols_pause_s: float = Field(default=60.0, gt=0)
    """Until the venue is asked again while it does not know a symbol, or does not say; the next pauses are longer."""
