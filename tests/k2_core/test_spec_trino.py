from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from k2_core.spec_external import StorageSpec
from k2_core.spec_trino import TrinoClusterSpec, unreadable

REF = {"name": "a", "key": "b"}
S3 = {"accessKeySecret": REF, "secretKeySecret": REF}


def storage(catalog: dict[str, object], **more: object) -> StorageSpec:
    return StorageSpec.model_validate({"catalog": catalog, "warehouse": "s3://lake/w", **more})


def test_a_trino_needs_nothing_to_be_said() -> None:
    found = TrinoClusterSpec()
    assert (found.workers.replicas, found.cache_size, found.grace_period_seconds) == (2, "8Gi", 120)
    assert found.access_secret_name is found.tls_secret_name is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({"cacheSize": "1023Mi"}, "found 1023Mi, expected at least 1Gi", id="cache"),
        pytest.param(
            {"workers": {"resources": {"limits": {"memory": "1Gi"}}}}, "found 1Gi, expected at least 2Gi", id="memory"
        ),
    ],
)
def test_what_is_too_small_is_refused(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        TrinoClusterSpec.model_validate(given)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        pytest.param(storage({"uri": "postgresql+psycopg://db/k2"}, s3=S3), None, id="PostgreSQL"),
        pytest.param(storage({"type": "rest", "uri": "https://catalog"}, s3=S3), None, id="REST"),
        pytest.param(storage({"uriSecret": REF}, s3=S3), None, id="in a secret"),
        pytest.param(storage({"uri": "postgresql://db/k2"}), "s3", id="no S3"),
        pytest.param(storage({"uri": "sqlite:////c.db"}, s3=S3), "catalog.uri", id="SQLite"),
        pytest.param(storage({"uri": "mysql://db/k2"}, s3=S3), "catalog.uri", id="MySQL"),
    ],
)
def test_what_a_trino_cannot_read_is_named(given: StorageSpec, field: str | None) -> None:
    found = unreadable(given)
    assert (None if found is None else found[0]) == field
