"""The sink's own settings, beside those that every service has."""

from __future__ import annotations

from pydantic import Field

from k2_core.config import ServiceSettings


class SinkSettings(ServiceSettings):
    """Environment variables of `python -m k2_sink`."""

    sink_drain_timeout_s: float = Field(default=30, ge=0)
    """How long SIGTERM lets the sink read on to the end of the log before it commits and leaves."""
    sink_session_timeout_s: float = Field(default=10, ge=1)
    """How long after a crash the group waits before others take the partitions over."""
    sink_stop_at_end: bool = False
    """Stop by itself once everything that was in the log at the start is committed; for backfills and benchmarks."""
    sink_check_every_s: float = Field(default=60, gt=0)
    """How often enrichment looks through what was committed, and commits what it found."""
    sink_project_every_s: float = Field(default=60, gt=0)
    """How often the tables `ledger` and `dlq` are brought up to date."""
    sink_age_every_s: float = Field(default=3_600, gt=0)
    """How often rows older than `storage.retentionDays` are looked for, and files that no snapshot shows any more."""
