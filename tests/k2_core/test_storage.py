"""The warehouse on a real S3 server, and each way in which it is not there, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr
from pyiceberg.io import load_file_io

from k2_core.config import ServiceSettings
from k2_core.errors import SpecError, StorageUnavailableError
from k2_core.records import TRADES
from k2_core.storage import file_properties, is_s3, storage_fault
from k2_core.tables import ensure_table, load_table, open_catalog
from support.s3 import ACCESS_KEY, SIGNING_KEY, LocalS3

KEYS: Mapping[str, object] = {"s3_access_key": SecretStr(ACCESS_KEY), "s3_secret_key": SecretStr(SIGNING_KEY)}


def settings_of(folder: Path, **more: object) -> ServiceSettings:
    given = {"catalog_uri": f"sqlite:///{folder}/catalog.db"}
    return ServiceSettings.model_validate(given | more)


class TestProperties:
    def test_a_disk_needs_none(self) -> None:
        assert file_properties(ServiceSettings(warehouse="file:///w", s3_endpoint="nonsense")).keys() == {"py-io-impl"}

    def test_aws_itself_is_named_by_no_endpoint(self) -> None:
        found = file_properties(ServiceSettings(warehouse="s3://lake/w"))
        assert not {"s3.endpoint", "s3.access-key-id", "s3.force-virtual-addressing"} & found.keys()

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            ({"s3_access_key": "hunter2"}, "K2_S3_SECRET_KEY: found none, expected both keys"),
            ({"s3_secret_key": "hunter2"}, "K2_S3_ACCESS_KEY: found none, expected both keys"),
            ({"s3_endpoint": "minio:9000"}, "K2_S3_ENDPOINT: found 'minio:9000', expected a URL"),
        ],
        ids=["no-secret", "no-key", "no-url"],
    )
    def test_what_is_missing_is_named(self, more: dict[str, str], message: str) -> None:
        with pytest.raises(SpecError, match=message) as caught:
            file_properties(ServiceSettings.model_validate({"warehouse": "s3://lake/w", **more}))
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize(
        ("url", "expected"), [("s3://b/k", True), ("file:///w", False), ("/w", False)], ids=["s3", "file", "path"]
    )
    def test_what_is_object_storage(self, url: str, expected: bool) -> None:
        assert is_s3(url) is expected


class TestServer:
    def test_a_table_is_there_for_others(self, s3: LocalS3, tmp_path: Path) -> None:
        settings = settings_of(tmp_path, warehouse=f"s3://{s3.bucket()}/warehouse", s3_endpoint=s3.endpoint, **KEYS)
        made = ensure_table(open_catalog(settings), "market", TRADES, "uid")
        found = load_table(open_catalog(settings), "market", TRADES)
        assert found is not None
        assert found.metadata == made.metadata
        assert made.location().startswith("s3://")

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            ({"s3_secret_key": "wrong"}, r"found the key refused \((ACCESS|SIGN).*\) at {endpoint}/{bucket}"),
            ({"s3_access_key": "wrong"}, r"found the key refused \(XAdminUserNotFound\) at {endpoint}/{bucket}"),
            ({"warehouse": "s3://nowhere-at-all/w"}, "found no such bucket at {endpoint}/nowhere-at-all"),
            (
                {"s3_region": "eu-west-1"},
                r"found the request refused \(HTTP 400\) at .*region to be 'eu-west-1'$",
            ),
            ({"s3_endpoint": "http://127.0.0.1:1"}, r"found no answer \(.*\) at http://127.0.0.1:1/{bucket}"),
        ],
        ids=["secret", "key", "bucket", "region", "nobody"],
    )
    def test_what_is_wrong_is_one_line(self, s3: LocalS3, tmp_path: Path, more: dict[str, str], message: str) -> None:
        bucket = s3.bucket()
        given = {"warehouse": f"s3://{bucket}/w", "s3_endpoint": s3.endpoint, **KEYS, **more}
        settings = settings_of(tmp_path, **given)
        expected = message.format(endpoint=s3.endpoint, bucket=bucket)
        with pytest.raises(StorageUnavailableError, match=f"^warehouse: {expected}") as caught:
            ensure_table(open_catalog(settings), "market", TRADES, "uid")
        text = str(caught.value)
        assert "\n" not in text
        assert not [secret for secret in (ACCESS_KEY, SIGNING_KEY) if secret in text]

    def test_a_file_that_is_gone(self, s3: LocalS3) -> None:
        settings = settings_of(Path("/nowhere"), warehouse=f"s3://{s3.bucket()}/w", s3_endpoint=s3.endpoint, **KEYS)
        properties = file_properties(settings)
        where = f"{settings.warehouse}/x.parquet"
        with pytest.raises(FileNotFoundError) as caught:
            load_file_io(properties).new_input(where).open()
        assert f"found no {where}" in str(storage_fault(caught.value, where, properties))


@pytest.mark.parametrize(
    ("text", "where", "expected"),
    [
        ("No space left on device", "file:///w", "found No space left on device at file:///w, expected room to write"),
        ("strange", "s3://b/k", "found strange at AWS/b, expected an answer"),
        (
            "AWS Error UNKNOWN (HTTP status 503) during GetObject operation: No response body.",
            "s3://b/k",
            "found HTTP 503: No response body. at AWS/b, expected an answer",
        ),
    ],
    ids=["disk", "other", "status"],
)
def test_other_faults(text: str, where: str, expected: str) -> None:
    assert str(storage_fault(OSError(text), where, {})) == f"warehouse: {expected}"
