"""The catalogs that the operator gives its Trino, taken by a real one: over a database and over REST the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from k2_core.config import ServiceSettings
from k2_core.tables import open_catalog
from k2_operator.names import TRINO_MAINTAINING, TRINO_READING, TRINO_WORKER
from k2_operator.pipeline import effective
from k2_operator.rendering.trino_config import CACHE, CATALOG_FILES, files
from k2_query.trino_files import TrinoFilesSettings, write
from support.lake import environment_settings
from support.maintained import Maintained
from support.operator import operator_config, plain_body
from support.postgres import LocalPostgres
from support.rest_catalog import LocalRestCatalog
from support.s3 import ACCESS_KEY, SIGNING_KEY, LocalS3
from support.trino import LocalTrino

pytestmark = [pytest.mark.trino, pytest.mark.rest, pytest.mark.timeout(600)]

COUNT: Final = 40
REF: Final = {"name": "s", "key": "k"}
KEPT: Final = timedelta(days=7)
"""As long as Trino asks for where a session says nothing else."""
ENVIRONMENT: Final = {"${ENV:K2_S3_ACCESS_KEY}": ACCESS_KEY, "${ENV:K2_S3_SECRET_KEY}": SIGNING_KEY}
"""As a container of Trino has it."""


@pytest.fixture(params=["sql", "rest"])
def environment(
    request: pytest.FixtureRequest, postgres: LocalPostgres, s3: LocalS3, rest_catalog: LocalRestCatalog
) -> dict[str, str]:
    """The variables that name catalog and warehouse."""
    if request.param == "rest":
        return rest_catalog.environment
    return {"K2_CATALOG_TYPE": "sql", "K2_CATALOG_URI": postgres.database(), **s3.environment(s3.bucket())}


def written(settings: ServiceSettings, folder: Path) -> dict[str, dict[str, str]]:
    """Return what an operator's Trino finds in the file of each catalog, as its pod has written it."""
    assert settings.catalog_uri is not None
    assert settings.warehouse is not None
    storage = {
        "catalog": {"type": settings.catalog_type, "uriSecret": REF},
        "warehouse": settings.warehouse,
        "s3": {"endpoint": settings.s3_endpoint, "accessKeySecret": REF, "secretKeySecret": REF},
    }
    cluster = {"accessSecretName": "a", "tlsSecretName": "t"}
    body = plain_body(storage=storage, query={"mode": "distributed", "trinoCluster": cluster})
    pipeline = effective(body, operator_config())
    assert pipeline.trino is not None
    for name, text in files(pipeline, pipeline.trino, TRINO_WORKER, "4Gi").items():
        if name in CATALOG_FILES:
            (folder / name).write_text(text)
    given = {
        name: getattr(settings, name)
        for name in ("catalog_type", "catalog_uri", "warehouse", "s3_endpoint", "s3_region")
    }
    write(TrinoFilesSettings(trino_templates=folder, trino_files=folder / "run", **given))
    return {path.stem: properties(path.read_text(), folder) for path in (folder / "run/catalog").iterdir()}


def properties(text: str, folder: Path) -> dict[str, str]:
    """Return a file's properties with what a container has: its variables, and a disk for its cache."""
    for old, new in {**ENVIRONMENT, CACHE: str(folder / "cache")}.items():
        text = text.replace(old, new)
    return dict(line.split("=", 1) for line in text.splitlines())


@pytest.fixture
def catalogs(environment: Mapping[str, str], trino: LocalTrino, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The names of the operator's catalogs in the test's Trino."""
    made = {}
    (tmp_path / "cache").mkdir()
    for name, found in written(environment_settings(environment), tmp_path).items():
        made[name] = f"{name}_{uuid4().hex[:8]}"
        kind = found.pop("connector.name")
        listed = ", ".join(f"\"{key}\" = '{value}'" for key, value in found.items())
        trino.query(f"CREATE CATALOG {made[name]} USING {kind} WITH ({listed})")
    yield made
    for name in made.values():
        trino.query(f"DROP CATALOG {name}")


def test_what_a_sink_commits_is_read_in_one_and_maintained_in_the_other(
    environment: Mapping[str, str], catalogs: Mapping[str, str], trino: LocalTrino, s3: LocalS3
) -> None:
    assert catalogs.keys() == {TRINO_READING, TRINO_MAINTAINING}
    settings = environment_settings(environment)
    with closing(open_catalog(settings)) as catalog:
        lake = Maintained(environment, trino, s3, catalog, settings, catalogs[TRINO_MAINTAINING])
        for seed in (1, 2):
            lake.commit(COUNT, seed)
        before = ids(trino, catalogs[TRINO_READING])
        assert before == sorted(str(one["message_id"]) for one in lake.records)
        lake.look()
        done = {(one.task.table, one.task.action) for one in lake.maintain(keep=KEPT)}
        assert ("trades", "optimize") in done
        assert ids(trino, catalogs[TRINO_READING]) == before
        lake.commit(COUNT, seed=3)
        assert ids(trino, catalogs[TRINO_READING]) == sorted(str(one["message_id"]) for one in lake.records)


def ids(trino: LocalTrino, catalog: str) -> list[str]:
    return sorted(str(row[0]) for row in trino.query(f"SELECT message_id FROM {catalog}.market.trades"))  # noqa: S608  # its own name
