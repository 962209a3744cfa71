"""What plans are computed from: what `hack/bench` measured, what is assumed, and unit prices.

Pure but for reading the file of prices.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from k2_core.errors import SpecError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
MEASURED_ON: Final = "2026-11-27, 2 cores x86_64, hack/bench sink ingest storage"


class _Figures(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Measured(_Figures):
    """Of one core of the machine on which `docs/benchmarks.md` was taken."""

    ingest_per_core_s: Positive = Field(92_191, description="trades a CPU-second, socket to acknowledged")
    sink_per_core_s: Positive = Field(355_987, description="records a CPU-second, Kafka to committed")
    sink_process_per_s: Positive = Field(339_596, description="records a second of one sink")
    tail_per_core_s: Positive = Field(675_000, description="records a CPU-second that are consumed and decoded")
    table_bytes: Positive = Field(8.66, description="bytes a trade in the table")
    sink_gib: Positive = Field(0.81, description="GiB of memory of a sink at that rate")


class Assumed(_Figures):
    """What K2 has not measured."""

    log_bytes: Positive = Field(100, description="bytes a record in the log, not compressed")
    utilization: Positive = Field(0.6, description="of a core, a broker or a worker at the peak")
    replication: Positive = Field(3, description="copies of the log, each in another zone")
    broker_bytes_s: Positive = Field(100e6, description="bytes a second that a broker writes, its copies included")
    broker_vcpu: Positive = Field(4, description="vCPU of a broker")
    broker_disk_gb: Positive = Field(4_000, description="GB of log that a broker holds at most")
    commit_s: Positive = Field(0.5, description="seconds of a commit: catalog and object storage")
    longest_interval_s: Positive = Field(120, description="seconds between commits at most, as the API warns then")
    files_per_commit: Positive = Field(16, description="data files of a commit: a bucket each")
    files_per_query: Positive = Field(20, description="files that a query reads, not from a cache")
    scan_gb_per_core_s: Positive = Field(0.2, description="GB of Parquet that a core scans in a second")
    single_node_gb: Positive = Field(10_000, description="GB of table that the DuckDB of an API is asked about at most")
    api_vcpu: Positive = Field(2, description="vCPU of an API pod, one of which follows the end of the log")
    worker_vcpu: Positive = Field(16, description="vCPU of a Trino worker, and 4 of the coordinator")


class Prices(_Figures):
    """Unit prices in US dollars."""

    as_of: str
    region: str
    vcpu_hour: Price
    disk_gb_month: Price
    object_gb_month: Price
    put_per_1000: Price
    get_per_1000: Price
    zone_transfer_gb: Price
    region_transfer_gb: Price
    catalog_hour: Price


def read_prices(file: Path | None) -> Prices:
    """Return the prices in a file, or those that K2 comes with.

    Raises:
        SpecError: The file is no TOML, or a price is missing, unknown or negative.
    """
    name = str(file) if file is not None else "prices.toml"
    packaged = resources.files("k2_cli.planning").joinpath("prices.toml")
    try:
        text = file.read_text(encoding="utf-8") if file is not None else packaged.read_text(encoding="utf-8")
        return Prices.model_validate(tomllib.loads(text))
    except OSError as error:
        raise SpecError(name, error.strerror or "no file", "a file of prices in TOML") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(name, f"no TOML ({error})", "a file of prices in TOML") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        found = {"missing": "nothing", "extra_forbidden": "an unknown key"}.get(first["type"], repr(first["input"]))
        expected = f"one of {', '.join(Prices.model_fields)}" if first["type"] == "extra_forbidden" else "a price"
        raise SpecError(f"{name}: {key}", found, expected) from error
