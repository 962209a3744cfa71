"""The process `python -m k2_query.trino_files`: writes what Trino reads its secrets from, before a Trino node starts.

Run by the operator as an init container of its Trino's pods. Trino knows no SQLAlchemy URI, takes passwords as digests
and a certificate together with its key; the operator reads no secret's value. So this writes, into a folder in memory
that dies with the pod, the files of catalogs, the digests and the certificate. It connects to nothing.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from k2_core.config import ServiceSettings, read_settings
from k2_core.errors import K2Error, SpecError
from k2_core.exits import last_word
from k2_core.logs import configure
from k2_core.storage import is_s3

ITERATIONS: Final = 100_000
"""Of PBKDF2. Trino keeps the outcome, so a password costs this once."""
CATALOGS: Final = "catalog"
PASSWORDS_FILE: Final = "passwords"
CERTIFICATE_FILE: Final = "server.pem"
_READER: Final = "k2"
_MAINTAINER: Final = "k2-maintenance"
_JDBC_NAMES: Final[Mapping[str, str]] = {
    "sslmode": "sslmode",
    "application_name": "ApplicationName",
    "connect_timeout": "connectTimeout",
}
"""What a URI of PostgreSQL's own library calls them, and JDBC's driver."""


class TrinoFilesSettings(ServiceSettings):
    """Beyond the catalog's own: where files lie, and what only a coordinator has."""

    trino_templates: Path
    """The folder with the files of catalogs, without their address."""
    trino_files: Path
    """The folder to write into."""
    trino_password: SecretStr | None = None
    """Of the query service; none on a worker, as the next two."""
    trino_maintenance_password: SecretStr | None = None
    trino_tls: Path | None = None
    """The folder with tls.crt and tls.key."""


def main() -> int:
    """Write the files; returns the exit code."""
    try:
        settings = read_settings(TrinoFilesSettings)
        configure("k2-trino-files", settings.log_level)
        write(settings)
    except K2Error as error:
        return last_word("k2-trino-files", error)
    return 0


def write(settings: TrinoFilesSettings) -> None:
    """Write the files, readable for their owner alone.

    Raises:
        SpecError: The catalog is none that Trino reads, or a file that is needed is not there. Shows no secret.
    """
    address = "".join(_lines(settings))
    templates = sorted(settings.trino_templates.glob("*.properties"))
    if not templates:
        raise SpecError(str(settings.trino_templates), "no *.properties", "the files of catalogs, which the pod mounts")
    for template in templates:
        _write(settings.trino_files / CATALOGS / template.name, _read(template) + address)
    passwords = {_READER: settings.trino_password, _MAINTAINER: settings.trino_maintenance_password}
    digests = [digest(user, password.get_secret_value()) for user, password in passwords.items() if password]
    if digests:
        _write(settings.trino_files / PASSWORDS_FILE, "".join(digests))
    if (folder := settings.trino_tls) is not None:
        _write(settings.trino_files / CERTIFICATE_FILE, _read(folder / "tls.key") + "\n" + _read(folder / "tls.crt"))


def digest(user: str, password: str) -> str:
    """Return the line of Trino's password file (https://trino.io/docs/476/security/password-file.html)."""
    salt = secrets.token_bytes(16)
    found = hashlib.pbkdf2_hmac("sha1", password.encode(), salt, ITERATIONS)
    return f"{user}:{ITERATIONS}:{salt.hex()}:{found.hex()}\n"


def connection(kind: str, uri: str) -> dict[str, str]:
    """Return the properties of the connector that say where the catalog is.

    Args:
        kind: `sql` or `rest`.
        uri: As K2's services know it.

    Raises:
        SpecError: It is no PostgreSQL, or says what JDBC has no word for. Never shows it, as it may hold a password.
    """
    if kind == "rest":
        return {"iceberg.rest-catalog.uri": uri}
    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):
        raise SpecError("spec.storage.catalog.uriSecret", "no database URL", "postgresql://...") from None
    if url.get_backend_name() != "postgresql" or not url.host or not url.database:
        raise SpecError(
            "spec.storage.catalog", f"a URL of {url.drivername}", "PostgreSQL with host and database, which Trino reads"
        )
    found = {"iceberg.jdbc-catalog.connection-url": _jdbc(url)}
    if url.username is not None:
        found["iceberg.jdbc-catalog.connection-user"] = url.username
    if url.password is not None:
        found["iceberg.jdbc-catalog.connection-password"] = str(url.password)
    return found


def _jdbc(url: URL) -> str:
    if unknown := sorted(url.query.keys() - _JDBC_NAMES.keys()):
        raise SpecError("spec.storage.catalog", f"the option {unknown[0]} in its URI", f"only {', '.join(_JDBC_NAMES)}")
    options = "&".join(f"{_JDBC_NAMES[name]}={value}" for name, value in url.query.items())
    place = f"jdbc:postgresql://{url.host}:{url.port or 5432}/{url.database}"
    return f"{place}?{options}" if options else place


def _lines(settings: TrinoFilesSettings) -> Iterator[str]:
    if settings.catalog_uri is None or settings.warehouse is None or not is_s3(settings.warehouse):
        raise SpecError("spec.storage", "no catalog, or a warehouse on disk", "a catalog and a warehouse at s3://")
    for name, value in connection(settings.catalog_type, settings.catalog_uri.get_secret_value()).items():
        if "${" in value:
            raise SpecError("spec.storage.catalog.uriSecret", "${ in it", "none: Trino takes it for a reference")
        yield f"{name}={_escaped(value)}\n"


def _escaped(value: str) -> str:
    r"""Return a value as Java's properties files have it: `\` doubled, what is not ASCII by its UTF-16 units."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = (int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2))
    text = "".join(chr(code) if 0x20 <= code < 0x7F else f"\\u{code:04x}" for code in codes)
    return f"\\{text}" if text.startswith(" ") else text


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(str(path), str(error.strerror), "a file that the pod mounts") from error


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    sys.exit(main())
