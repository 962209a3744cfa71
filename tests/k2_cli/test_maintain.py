"""`k2 maintain`: what is refused without a Trino, and what a real one does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cli import k2
from support.lake import by_message_id
from support.maintained import Maintained, maintained
from support.postgres import LocalPostgres
from support.s3 import LocalS3
from support.trino import OUTSIDER, LocalTrino


def pipeline_file(folder: Path, **spec: Any) -> Path:
    source = {"name": "binance", "venue": "binance", "symbols": [{"name": "BTCUSDT"}]}
    document = {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "K2Pipeline",
        "metadata": {"name": "crypto"},
        "spec": {"ingestion": [source], **spec},
    }
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_without_a_trino_it_says_what_is_missing(tmp_path: Path) -> None:
    answer = k2("maintain", "-f", pipeline_file(tmp_path), "--dir", tmp_path / "k2")
    assert answer.code == 2
    assert answer.err.startswith("k2: spec.query.mode: found single, expected distributed: it is Trino that maintains")


@pytest.mark.trino
class TestWithTrino:
    @pytest.fixture
    def lake(
        self, trino: LocalTrino, postgres: LocalPostgres, s3: LocalS3, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Maintained]:
        with maintained(trino, postgres, s3) as made:
            for name in ("K2_CATALOG_URI", "K2_S3_ACCESS_KEY", "K2_S3_SECRET_KEY"):
                monkeypatch.setenv(name, made.environment[name])
            for seed in range(3):
                made.commit(50, seed)
            yield made

    def file(self, lake: Maintained, folder: Path, user: str = "k2") -> Path:
        uri, access, secret = ({"name": "s", "key": key} for key in ("uri", "access", "secret"))
        storage = {
            "catalog": {"type": "sql", "uriSecret": uri},
            "warehouse": lake.environment["K2_WAREHOUSE"],
            "s3": {
                "endpoint": lake.environment["K2_S3_ENDPOINT"],
                "accessKeySecret": access,
                "secretKeySecret": secret,
            },
        }
        trino = {"url": lake.trino.url, "catalog": lake.trino_catalog, "user": user}
        return pipeline_file(folder, storage=storage, query={"mode": "distributed", "trino": trino})

    def test_tables_are_maintained_and_the_figures_said(self, lake: Maintained, tmp_path: Path) -> None:
        options = ("-f", self.file(lake, tmp_path), "--dir", tmp_path / "k2", "--keep-days", 0)
        preview = k2("maintain", *options, "--dry-run")
        assert preview.code == 0, preview.err
        assert "trades 2026-01-05 waits: enrichment has not looked at all of it" in preview.out
        assert len(lake.writer.load()[0].snapshots()) == 3
        answer = k2("maintain", *options, "--json")
        assert answer.code == 0, answer.err
        found = answer.document
        assert found["waiting"] == [{"table": "trades", "day": "2026-01-05", "files": 6}]
        expire, orphans = found["statements"]
        assert (expire["action"], expire["snapshots_before"], expire["snapshots_after"]) == ("expire_snapshots", 3, 1)
        assert expire["statement"].endswith("EXECUTE expire_snapshots(retention_threshold => '0s')")
        assert (orphans["action"], orphans["error"], orphans["attempts"]) == ("remove_orphan_files", None, 1)
        assert "1 of 2: trades expire_snapshots: " in answer.err
        assert by_message_id(lake.held()) == by_message_id(lake.records)
        shown = k2("maintain", *options)
        assert [line.split()[:2] for line in shown.out.splitlines()[1:3]] == [
            ["trades", "expire_snapshots"],
            ["trades", "remove_orphan_files"],
        ]

    def test_without_an_option_the_pipeline_says_what_is_kept(self, lake: Maintained, tmp_path: Path) -> None:
        file = self.file(lake, tmp_path)
        document = yaml.safe_load(file.read_text())
        document["spec"]["maintenance"] = {"snapshotRetentionDays": 3}
        file.write_text(yaml.safe_dump(document))
        found = k2("maintain", "-f", file, "--dir", tmp_path / "k2", "--json").document
        assert [one["statement"].partition("=> ")[2] for one in found["statements"]] == ["'259200s')"] * 2
        assert [(one["snapshots_after"], one["error"]) for one in found["statements"]] == [(3, None)] * 2

    def test_what_failed_is_the_exit_code(self, lake: Maintained, tmp_path: Path) -> None:
        answer = k2("maintain", "-f", self.file(lake, tmp_path, OUTSIDER), "--dir", tmp_path / "k2", "--json")
        assert answer.code == 3
        assert [one["attempts"] for one in answer.document["statements"]] == [1, 1]
        assert "; failed after 1 attempts: Trino at " in answer.err
