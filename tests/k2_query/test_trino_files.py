from __future__ import annotations

import hashlib
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from k2_core.errors import SpecError
from k2_query.trino_files import ITERATIONS, TrinoFilesSettings, connection, digest, write

SHIBBOLETH = r"p=ss\wörd #1"
URI = "postgresql+psycopg://k2:p%3Dss%5Cw%C3%B6rd%20%231@db:5433/lake?sslmode=require&connect_timeout=5"


def settings(folder: Path, **more: Any) -> TrinoFilesSettings:
    templates = folder / "templates"
    templates.mkdir(exist_ok=True)
    (templates / "k2.properties").write_text("connector.name=iceberg\ns3.aws-access-key=${ENV:K2_S3_ACCESS_KEY}\n")
    (templates / "other.properties").write_text("connector.name=iceberg\n")
    given = {"catalog_uri": SecretStr(URI), "warehouse": "s3://lake/w", **more}
    return TrinoFilesSettings(**{"trino_templates": templates, "trino_files": folder / "run", **given})


def unescaped(line: str) -> str:
    """Read a value as Java's properties are read."""
    return line.encode("ascii").decode("unicode_escape")


def test_a_catalog_of_postgresql_as_jdbc_names_it(tmp_path: Path) -> None:
    write(settings(tmp_path))
    lines = (tmp_path / "run/catalog/k2.properties").read_text().splitlines()
    assert lines[:2] == ["connector.name=iceberg", "s3.aws-access-key=${ENV:K2_S3_ACCESS_KEY}"]
    found = {name: unescaped(value) for name, value in (line.split("=", 1) for line in lines[2:])}
    assert found == {
        "iceberg.jdbc-catalog.connection-url": "jdbc:postgresql://db:5433/lake?sslmode=require&connectTimeout=5",
        "iceberg.jdbc-catalog.connection-user": "k2",
        "iceberg.jdbc-catalog.connection-password": SHIBBOLETH,
    }
    assert (tmp_path / "run/catalog/other.properties").read_text().splitlines() == [lines[0], *lines[2:]]


def test_a_rest_catalog_and_one_without_a_login() -> None:
    assert connection("rest", "https://catalog/x") == {"iceberg.rest-catalog.uri": "https://catalog/x"}
    assert connection("sql", "postgresql://db/k2") == {
        "iceberg.jdbc-catalog.connection-url": "jdbc:postgresql://db:5432/k2"
    }


def test_passwords_are_digests_and_nobody_else_reads_a_file(tmp_path: Path) -> None:
    write(settings(tmp_path, trino_password=SecretStr("one"), trino_maintenance_password=SecretStr("two")))
    file = tmp_path / "run/passwords"
    found = {user: rest for user, *rest in (line.split(":") for line in file.read_text().splitlines())}
    assert found.keys() == {"k2", "k2-maintenance"}
    for user, word in (("k2", b"one"), ("k2-maintenance", b"two")):
        rounds, salt, value = found[user]
        assert int(rounds) == ITERATIONS
        assert hashlib.pbkdf2_hmac("sha1", word, bytes.fromhex(salt), ITERATIONS).hex() == value
    assert digest("k2", "one") != digest("k2", "one")
    for path in (file, tmp_path / "run/catalog/k2.properties"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_worker_has_neither_passwords_nor_a_certificate(tmp_path: Path) -> None:
    write(settings(tmp_path))
    write(settings(tmp_path))  # a container that is started again in its pod
    assert {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()} == {
        "k2.properties",
        "other.properties",
    }


def test_the_certificate_stands_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "tls.key").write_text("KEY")
    (tmp_path / "tls.crt").write_text("CERTIFICATE\n")
    write(settings(tmp_path, trino_tls=tmp_path))
    assert (tmp_path / "run/server.pem").read_text() == "KEY\nCERTIFICATE\n"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param({"catalog_uri": None}, "spec.storage: found no catalog", id="no catalog"),
        pytest.param({"warehouse": "file:///lake"}, "or a warehouse on disk", id="disk"),
        pytest.param(
            {"catalog_uri": SecretStr("sqlite:////c.db")}, "a URL of sqlite, expected PostgreSQL", id="SQLite"
        ),
        pytest.param({"catalog_uri": SecretStr("nonsense")}, "found no database URL", id="nonsense"),
        pytest.param({"catalog_uri": SecretStr(URI + "&options=x")}, "found the option options", id="an option"),
        pytest.param(
            {"catalog_uri": SecretStr("postgresql://k2:${ENV:x}@db/k2")}, "Trino takes it for", id="reference"
        ),
        pytest.param({"trino_tls": Path("/nowhere")}, "/nowhere/tls.key: found No such file", id="no certificate"),
        pytest.param({"trino_templates": Path("/nowhere")}, "/nowhere: found no *.properties", id="no template"),
    ],
)
def test_what_does_not_do_is_said_without_the_secret(tmp_path: Path, more: dict[str, Any], expected: str) -> None:
    with pytest.raises(SpecError) as error:
        write(settings(tmp_path, **more))
    assert expected in str(error.value)
    assert SHIBBOLETH not in str(error.value)


def test_as_a_process_it_leaves_its_last_word_where_kubernetes_looks(tmp_path: Path) -> None:
    (tmp_path / "k2.properties").write_text("connector.name=iceberg\n")
    word = tmp_path / "word"
    environment = {
        "K2_TRINO_TEMPLATES": str(tmp_path),
        "K2_TRINO_FILES": str(tmp_path / "run"),
        "K2_WAREHOUSE": "s3://lake/w",
        "K2_TERMINATION_MESSAGE_PATH": str(word),
    }
    for uri, status in (("sqlite:////c.db", 2), (URI, 0)):
        done = subprocess.run(
            [sys.executable, "-m", "k2_query.trino_files"],
            env={"PATH": "/usr/bin", "PYTHONPATH": ":".join(sys.path), **environment, "K2_CATALOG_URI": uri},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stderr
    assert word.read_text().startswith("k2-trino-files: spec.storage.catalog: found a URL of sqlite")
