from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from k2_core.errors import SetupError, SpecError
from k2_core.spec import PipelineSpec, parse_pipeline
from k2_query import engines
from k2_query.duckdb_engine import DuckDBEngine
from k2_query.engines import open_engine
from k2_query.settings import QuerySettings
from k2_query.trino_engine import TrinoEngine

POSTGRESQL = SecretStr("postgresql://k2@db/k2")
TRINO: dict[str, Any] = {"mode": "distributed", "trino": {"url": "https://trino:8443"}}


def spec_of(query: dict[str, Any]) -> PipelineSpec:
    source = {"name": "b", "venue": "binance", "symbols": [{"name": "BTCUSDT"}]}
    return parse_pipeline(
        {
            "apiVersion": "k2.dev/v1alpha1",
            "kind": "K2Pipeline",
            "metadata": {"name": "p"},
            "spec": {"ingestion": [source], "query": query},
        }
    ).spec


def ignore(_nbytes: int) -> None:
    """Nobody counts here."""


def settings(**changes: Any) -> QuerySettings:
    given: dict[str, Any] = {"catalog_uri": POSTGRESQL, "trino_url": "https://trino:8443"} | changes
    return QuerySettings(**given)


def test_mode_single_is_duckdb(tmp_path: Path) -> None:
    engine = open_engine(QuerySettings(warehouse=f"file://{tmp_path}"), spec_of({}), ignore)
    assert isinstance(engine, DuckDBEngine)
    engine.close()


def test_mode_distributed_is_trino() -> None:
    given = settings(
        trino_catalog="lake", trino_user="desk", trino_password=SecretStr("hush"), trino_ca_file=Path("/ca")
    )
    engine = open_engine(given, spec_of(TRINO), ignore)
    assert isinstance(engine, TrinoEngine)
    server = engine._client._server
    assert (server.url, server.catalog, server.user) == ("https://trino:8443", "lake", "desk")
    assert (server.password, server.token, server.ca_file) == (SecretStr("hush"), None, Path("/ca"))
    assert "hush" not in repr(server)
    engine.close()


@pytest.mark.parametrize(
    ("given", "query", "message"),
    [
        (QuerySettings(), {}, r"^K2_WAREHOUSE: found none"),
        (settings(trino_url=None), TRINO, r"^K2_TRINO_URL: found none, expected the address"),
        (
            settings(catalog_uri=SecretStr("sqlite:////d/catalog.db")),
            TRINO,
            r"^spec\.query\.mode: found distributed over a catalog in SQLite, expected one in PostgreSQL or REST",
        ),
        (
            settings(trino_url="http://trino:8080", trino_token=SecretStr("hush")),
            TRINO,
            r"^K2_TRINO_URL: found http://trino:8080 with a secret, expected https://",
        ),
    ],
    ids=["no-warehouse", "no-trino", "sqlite", "in-clear"],
)
def test_what_is_missing_is_named(given: QuerySettings, query: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        open_engine(given, spec_of(query), ignore)


def test_without_the_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_name: str) -> None:
        return None

    monkeypatch.setattr(engines, "find_spec", nothing)
    with pytest.raises(SetupError, match="found no Python package trino, expected K2 installed with its extra `distr"):
        open_engine(settings(), spec_of(TRINO), ignore)


def test_mode_single_does_not_load_trino_s_client(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, k2_query.__main__; from k2_core.spec import load_pipeline; "
        "from k2_query.engines import open_engine; from k2_query.settings import QuerySettings; "
        "spec = load_pipeline(pathlib.Path(sys.argv[1])).spec; "
        "open_engine(QuerySettings(warehouse=sys.argv[2]), spec, print).close(); "
        "sys.exit([name for name in sys.modules if name.partition('.')[0] == 'trino'] != [])"
    )
    manifest = Path(__file__).parents[2] / "manifests" / "pipeline.yaml"
    command = [sys.executable, "-c", program, str(manifest), f"file://{tmp_path}"]
    assert subprocess.run(command, check=False, timeout=120).returncode == 0
