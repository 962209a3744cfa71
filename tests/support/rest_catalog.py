"""A real Iceberg REST catalog on loopback for tests: the reference implementation, over PostgreSQL and S3.

Iceberg publishes its own REST server's parts with its tests (`iceberg-core`, classifier `tests`); Jetty's XML puts them
together, so there is nothing to compile. The jars (93 MB) are fetched once into K2's cache folder. The fixture is
`rest_catalog`. When Iceberg's version changes, `PYTHONPATH=hack:tests python -m support.rest_catalog` writes the lock
again.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

import httpx
from pyiceberg.io import load_file_io

from k2_cli.stack import ports
from k2_cli.stack.artifacts import ensure_jars, read_lock
from k2_cli.stack.java import find_java
from k2_cli.stack.process import ManagedProcess
from k2_cli.stack.relock import lock
from k2_core.errors import CatalogUnavailableError
from k2_core.listing import listed, located
from k2_core.tables import answering, open_catalog
from support.lacking import needed
from support.lake import environment_settings
from support.s3 import ACCESS_KEY, SIGNING_KEY

NAME: Final = "REST catalog"
ICEBERG: Final = "1.10.1"
ROOTS: Final = (
    f"org.apache.iceberg:iceberg-core:{ICEBERG}",
    f"org.apache.iceberg:iceberg-aws:{ICEBERG}",
    f"org.apache.iceberg:iceberg-aws-bundle:{ICEBERG}",
    "org.assertj:assertj-core:3.27.3",
    "org.eclipse.jetty:jetty-servlet:11.0.26",
    "org.eclipse.jetty:jetty-xml:11.0.26",
    "org.postgresql:postgresql:42.7.8",
    "org.slf4j:slf4j-simple:2.0.17",
)
LOCK_FILE: Final = Path(__file__).with_name("rest_catalog.lock")
_START_TIMEOUT_S: Final = 60.0
_SERVER: Final = """<?xml version="1.0"?>
<!DOCTYPE Configure PUBLIC "-//Jetty//Configure//EN" "https://www.eclipse.org/jetty/configure_10_0.dtd">
<Configure id="Server" class="org.eclipse.jetty.server.Server">
  <New id="catalog" class="org.apache.iceberg.jdbc.JdbcCatalog">
    <Call name="initialize"><Arg>k2</Arg><Arg><Map>{properties}</Map></Arg></Call>
  </New>
  <New id="adapter" class="org.apache.iceberg.rest.RESTCatalogAdapter"><Arg><Ref refid="catalog"/></Arg></New>
  <New id="servlet" class="org.apache.iceberg.rest.RESTCatalogServlet"><Arg><Ref refid="adapter"/></Arg></New>
  <Call name="addConnector"><Arg>
    <New class="org.eclipse.jetty.server.ServerConnector">
      <Arg><Ref refid="Server"/></Arg><Set name="host">{host}</Set><Set name="port">{port}</Set>
    </New>
  </Arg></Call>
  <Set name="handler">
    <New id="context" class="org.eclipse.jetty.servlet.ServletContextHandler">
      <Call name="addServlet">
        <Arg><New class="org.eclipse.jetty.servlet.ServletHolder">
          <Set name="servlet"><Ref refid="servlet"/></Set>
        </New></Arg>
        <Arg>/*</Arg>
      </Call>
    </New>
  </Set>
</Configure>
"""


@dataclass
class LocalRestCatalog:
    """One server on 127.0.0.1; `stop` and `start` are an outage, what it holds is in PostgreSQL.

    Args:
        directory: Where its configuration and log lie.
        database: URI of a database of its own.
        s3: The variables that name a warehouse in a bucket.
    """

    directory: Path
    database: str
    s3: dict[str, str]
    port: int = 0
    _process: ManagedProcess | None = field(default=None, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that name catalog and warehouse."""
        return self.s3 | {"K2_CATALOG_TYPE": "rest", "K2_CATALOG_URI": f"http://{ports.LOOPBACK}:{self.port}"}

    def start(self) -> None:
        """Start it and return when it answers; again on the same port.

        Raises:
            SetupError: Java or the download is missing, or it did not start.
        """
        self.port = self.port or ports.find_free(str(self.directory))
        jars = ensure_jars(jars=read_lock(LOCK_FILE), name=NAME)
        options = [
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "-Xmx256m",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
        ]
        main = ["-cp", f"{jars}/*", "org.eclipse.jetty.xml.XmlConfiguration", str(self._configuration())]
        self._process = ManagedProcess(
            name="the REST catalog",
            command=[str(find_java().executable), *options, *main],
            log=self.directory / "rest-catalog.log",
            env=os.environ | {"AWS_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "2"},
        )
        self._process.start()
        try:
            self._process.wait_ready(self._answers, timeout_s=_START_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it; may be called at any time."""
        if self._process is not None:
            self._process.stop()

    def renew(self) -> None:
        """Forget all tables and namespaces, and remove all files.

        Its connections do not survive a restart of PostgreSQL by another test: then it is started anew.
        """
        try:
            self._clear()
        except CatalogUnavailableError:
            self.stop()
            self.start()
            self._clear()

    def _clear(self) -> None:
        settings = environment_settings(self.environment)
        with closing(open_catalog(settings)) as catalog, answering("", {}):
            for namespace in catalog.list_namespaces():
                for table in catalog.list_tables(namespace):
                    catalog.drop_table(table)
                catalog.drop_namespace(namespace)
            io = load_file_io(dict(catalog.properties), settings.warehouse)
            files, _ = located(io, str(settings.warehouse))
            for one in listed(io, str(settings.warehouse), below=True):
                files.delete_file(one.path)

    def _configuration(self) -> Path:
        database = urlsplit(self.database)
        properties = {
            "uri": f"jdbc:postgresql://{database.hostname}:{database.port}{database.path}",
            "jdbc.user": database.username or "",
            "jdbc.password": database.password or "",
            "jdbc.schema-version": "V1",
            "warehouse": self.s3["K2_WAREHOUSE"],
            "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            "s3.endpoint": self.s3["K2_S3_ENDPOINT"],
            "s3.access-key-id": ACCESS_KEY,
            "s3.secret-access-key": SIGNING_KEY,
            "s3.path-style-access": "true",
        }
        entries = (
            f"<Entry><Item>{escape(name)}</Item><Item>{escape(value)}</Item></Entry>"
            for name, value in properties.items()
        )
        file = self.directory / "rest-catalog.xml"
        file.touch(mode=0o600)
        file.write_text(_SERVER.format(properties="".join(entries), host=ports.LOOPBACK, port=self.port))
        return file

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://{ports.LOOPBACK}:{self.port}/v1/config", timeout=5).is_success
        except httpx.TransportError:
            return False


def start_or_skip(server: LocalRestCatalog) -> None:
    """Start it; a machine that cannot is a failure under CI, else a skip that says what is missing."""
    with needed("the REST catalog"):
        server.start()


if __name__ == "__main__":
    lock(
        ROOTS,
        LOCK_FILE,
        alone=(f"org.apache.iceberg:iceberg-core:{ICEBERG}:tests",),
        header="# A REST catalog's jars. Written by `python -m support.rest_catalog`; do not edit.\n",
    )
