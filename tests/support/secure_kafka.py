"""A real Kafka that takes TLS with SCRAM passwords only, with an authority of its own, for tests."""

from __future__ import annotations

import base64
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from k2_cli.stack import ports
from k2_cli.stack.artifacts import ensure_jars
from k2_cli.stack.java import find_java
from k2_cli.stack.kafka_config import class_path, jvm_options, server_properties
from k2_cli.stack.process import ManagedProcess
from k2_core.errors import SetupError

USER: Final = "k2"
SHIBBOLETH: Final = "k2-kafka-shibboleth"
MECHANISM: Final = "SCRAM-SHA-512"
_TIMEOUT_S: Final = 90.0
_HEAP_MB: Final = 256


@dataclass
class SecureKafka:
    """One broker on 127.0.0.1.

    Args:
        directory: Where everything of it lies.
    """

    directory: Path
    port: int = 0
    _process: ManagedProcess | None = field(default=None, repr=False)

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect."""
        return f"{ports.LOOPBACK}:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The authority's certificate."""
        return self.directory / "ca.crt"

    @property
    def environment(self) -> dict[str, str]:
        """What a service needs to know beside the address."""
        return {
            "K2_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "K2_KAFKA_CA_FILE": str(self.ca_file),
            "K2_KAFKA_SASL_MECHANISM": MECHANISM,
            "K2_KAFKA_SASL_USERNAME": USER,
            "K2_KAFKA_SASL_PASSWORD": SHIBBOLETH,
        }

    def start(self) -> None:
        """Format, start, and return when a client with the password is served.

        Raises:
            SetupError: It could not be started.
        """
        self.port = ports.find_free(str(self.directory))
        self._certify()
        java = find_java()
        command = [str(java.executable), *jvm_options(java, _HEAP_MB), *class_path(ensure_jars())]
        (self.directory / "tmp").mkdir()
        (self.directory / "server.properties").write_text(self._properties())
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        scram = f"{MECHANISM}=[name={USER},password={SHIBBOLETH}]"
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config=server.properties"]
        self._run("the format tool", [*command, *tool, "--add-scram", scram])
        self._process = self._managed("the secure Kafka", [*command, "kafka.Kafka", "server.properties"])
        self._process.start()
        self._process.wait_ready(self._serves, timeout_s=_TIMEOUT_S)

    def stop(self) -> None:
        """Stop it; may be called at any time."""
        if self._process is not None:
            self._process.stop()

    def _properties(self) -> str:
        controller = ports.find_free(f"controller of {self.directory}", avoid=frozenset({self.port}))
        plain = server_properties(self.port, controller).replace("PLAINTEXT://127.0.0.1:", "SASL_SSL://127.0.0.1:")
        plain = plain.replace("inter.broker.listener.name=PLAINTEXT", "inter.broker.listener.name=SASL_SSL")
        plain = plain.replace("PLAINTEXT:PLAINTEXT,CONTROLLER", "SASL_SSL:SASL_SSL,CONTROLLER")
        login = f'org.apache.kafka.common.security.scram.ScramLoginModule required username="{USER}" '
        more = {
            "sasl.enabled.mechanisms": MECHANISM,
            "sasl.mechanism.inter.broker.protocol": MECHANISM,
            f"listener.name.sasl_ssl.{MECHANISM.lower()}.sasl.jaas.config": f'{login}password="{SHIBBOLETH}";',
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": "broker.pem",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": "ca.crt",
            # Everything is allowed to everybody but what a test denies.
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
        }
        return plain + "".join(f"{name}={value}\n" for name, value in more.items())

    def _certify(self) -> None:
        new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        ca = ["-subj", "/CN=k2 test authority", "-keyout", "ca.key", "-out", "ca.crt"]
        self._run("openssl", [*new, *ca])
        leaf = ["-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "broker.key"]
        signed = ["-addext", "basicConstraints=critical,CA:FALSE", "-CA", "ca.crt", "-CAkey", "ca.key"]
        self._run("openssl", [*new, *leaf, *signed, "-out", "broker.crt"])
        parts = [(self.directory / f"broker.{kind}").read_text() for kind in ("key", "crt")]
        (self.directory / "broker.pem").write_text("".join(parts))

    def _run(self, name: str, command: list[str]) -> None:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, cwd=self.directory
        )
        if done.returncode:
            raise SetupError(f"{name} ended with {done.returncode}, expected 0: {(done.stderr or done.stdout)[-400:]}")

    def _managed(self, name: str, command: list[str]) -> ManagedProcess:
        return ManagedProcess(name=name, command=command, log=self.directory / "kafka.log", cwd=self.directory)

    def _serves(self) -> bool:
        config: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self.ca_file),
            "sasl.mechanism": MECHANISM,
            "sasl.username": USER,
            "sasl.password": SHIBBOLETH,
            "log_level": 0,
        }
        try:
            return bool(AdminClient(config).list_topics(timeout=2).brokers)
        except KafkaException:
            return False
