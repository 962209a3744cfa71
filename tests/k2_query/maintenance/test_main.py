"""The process of a job: it maintains once, says what it did, and ends as services do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from k2_core.spec import parse_pipeline
from k2_query.maintenance.__main__ import maintained as done
from k2_query.settings import QuerySettings
from support.lake import by_message_id
from support.maintained import Maintained, maintained
from support.postgres import LocalPostgres
from support.s3 import LocalS3
from support.trino import OUTSIDER, LocalTrino


def run(folder: Path, variables: Mapping[str, str], days: int = 7) -> subprocess.CompletedProcess[str]:
    source = {"name": "binance", "venue": "binance", "symbols": [{"name": "BTCUSDT"}]}
    document = {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "K2Pipeline",
        "metadata": {"name": "crypto"},
        "spec": {"ingestion": [source], "maintenance": {"snapshotRetentionDays": days}},
    }
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(document))
    paths = {
        "K2_PIPELINE_FILE": str(folder / "pipeline.yaml"),
        "K2_TERMINATION_MESSAGE_PATH": str(folder / "last-word"),
    }
    return subprocess.run(
        [sys.executable, "-m", "k2_query.maintenance"],
        env={**os.environ, **paths, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


SPEC = parse_pipeline(
    {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "K2Pipeline",
        "metadata": {"name": "crypto"},
        "spec": {"ingestion": [{"name": "binance", "venue": "binance", "symbols": [{"name": "BTCUSDT"}]}]},
    }
).spec


def lines(said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def test_without_a_trino_it_ends_with_what_is_missing(tmp_path: Path) -> None:
    ended = run(tmp_path, {"K2_CATALOG_URI": "postgresql://db/k2", "K2_WAREHOUSE": "s3://lake/w"})
    assert ended.returncode == 2
    assert (tmp_path / "last-word").read_text().startswith("k2-maintenance: K2_TRINO_URL: found none")


@pytest.mark.trino
class TestWithTrino:
    @pytest.fixture
    def lake(self, trino: LocalTrino, postgres: LocalPostgres, s3: LocalS3) -> Iterator[Maintained]:
        with maintained(trino, postgres, s3) as made:
            made.commit(50, 1)
            yield made

    def variables(self, lake: Maintained, **more: str) -> dict[str, str]:
        own = {"K2_TRINO_URL": lake.trino.url, "K2_TRINO_CATALOG": lake.trino_catalog}
        return {**lake.environment, **own, **more}

    def test_each_statement_is_a_line(self, lake: Maintained, tmp_path: Path) -> None:
        ended = run(tmp_path, self.variables(lake))
        assert ended.returncode == 0, ended.stderr
        said = lines(ended.stderr)
        assert [line["action"] for line in said if line["message"] == "maintained"] == [
            "expire_snapshots",
            "remove_orphan_files",
        ]
        assert (said[-1]["message"], said[-1]["statements"], said[-1]["failed"]) == ("done", 2, 0)
        assert by_message_id(lake.held()) == by_message_id(lake.records)

    def test_less_than_a_week_is_kept_where_the_pipeline_says_so(self, lake: Maintained, tmp_path: Path) -> None:
        strict = lake.trino.catalog(
            lake.settings,
            iceberg_expire_snapshots_min_retention="7d",
            iceberg_remove_orphan_files_min_retention="7d",
        )
        ended = run(tmp_path, self.variables(lake, K2_TRINO_CATALOG=strict), 2)
        assert ended.returncode == 0, ended.stderr
        told = [one["query"] for one in lake.trino.queries(f'"{strict}"')]
        assert [text.partition(" EXECUTE ")[2] for text in told] == [
            "expire_snapshots(retention_threshold => '172800s')",
            "remove_orphan_files(retention_threshold => '172800s')",
        ]
        assert {one["state"] for one in lake.trino.queries(f'"{strict}"')} == {"FINISHED"}

    def test_what_failed_is_its_last_word(self, lake: Maintained, tmp_path: Path) -> None:
        ended = run(tmp_path, self.variables(lake, K2_TRINO_USER=OUTSIDER))
        assert ended.returncode == 3
        assert [line["level"] for line in lines(ended.stderr) if line["message"] == "failed"] == ["ERROR", "ERROR"]
        assert "Access Denied" in (tmp_path / "last-word").read_text()

    def test_days_that_wait_are_said(
        self, lake: Maintained, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        lake.commit(50, 2)
        for name, value in self.variables(lake).items():
            monkeypatch.setenv(name, value)
        with caplog.at_level("INFO", "k2_query.maintenance"):
            assert done(QuerySettings(), SPEC) is None
        assert next(iter(caplog.records)).message == "waits for enrichment"
