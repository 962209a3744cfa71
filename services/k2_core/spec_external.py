"""The parts of a K2Pipeline that name what exists already: Kafka, catalog, warehouse, S3, Redis, Trino.

Read through `k2_core.spec`; pure. Nothing here holds a secret: those are referred to.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from k2_core.spec_fields import HttpUrl, HttpUrlWithPath, Model, SecretKeyRef, contradiction, rule, rules, unchanging

_ELSEWHERE: Final = "other storage is another pipeline"
_HOST_AND_PORT: Final = r"([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}"
_WITH_LOGIN: Final = r"//[^/@]*:[^/@]*@|[?&](ssl)?password="


class TlsSpec(Model):
    """TLS towards Kafka, always verified; `caSecret` names a CA that the system does not know."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.enabled || !has(self.caSecret)",
                "found a CA though enabled is false, expected none, or enabled: true",
                field=".caSecret",
            )
        )
    )

    enabled: bool = Field(default=True, description="Whether to speak TLS.")
    ca_secret: SecretKeyRef | None = Field(default=None, description="PEM certificates of the CA; none: the system's.")

    @model_validator(mode="after")
    def _ca_of_tls_only(self) -> Self:
        if self.ca_secret is not None and not self.enabled:
            raise contradiction("caSecret", "a CA though enabled is false", "none, or enabled: true")
        return self


class SaslSpec(Model):
    """SASL towards Kafka."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(description="How to log in.")
    username_secret: SecretKeyRef = Field(description="Where the user's name is.")
    password_secret: SecretKeyRef = Field(description="Where the password is.")


class KafkaSpec(Model):
    """A Kafka that exists already; without this part the laptop or the chart brings one."""

    # Brokers come, go and are renamed while the cluster stays: the tables' state holds the cluster's id, and the sink
    # refuses another one. So this may change.
    bootstrap_servers: str = Field(
        pattern=rf"^{_HOST_AND_PORT}(,{_HOST_AND_PORT})*$", max_length=2048, description="host:port,host:port"
    )
    schema_registry_url: HttpUrlWithPath | None = Field(
        default=None, description="A registry with Confluent's API; none: the schemas that ship with K2."
    )
    tls: TlsSpec | None = Field(default=None, description="TLS towards Kafka; none: plain text.")
    sasl: SaslSpec | None = Field(default=None, description="SASL towards Kafka; none: no login.")
    replication_factor: int = Field(default=3, ge=1, le=9, description="Of topics that K2 creates.")

    @property
    def security_protocol(self) -> Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]:
        """What librdkafka calls this combination of TLS and SASL."""
        if self.tls is not None and self.tls.enabled:
            return "SASL_SSL" if self.sasl else "SSL"
        return "SASL_PLAINTEXT" if self.sasl else "PLAINTEXT"


class CatalogSpec(Model):
    """The Iceberg catalog: `sql` (a SQLAlchemy URI) or `rest` (a URL). A URI with a password belongs in the secret."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.uri) != has(self.uriSecret)",
                "expected exactly one of uri and uriSecret",
                shown="'found ' + (has(self.uri) ? 'both' : 'none') + ', expected exactly one of uri and uriSecret'",
                field=".uri",
            ),
            rule(
                "!has(self.uri) || self.uri.matches('^https?://') == (self.type == 'rest')",
                "expected a SQLAlchemy URI for type sql, an http or https URL for type rest",
                field=".uri",
            ),
            rule(
                f"!has(self.uri) || !self.uri.matches('{_WITH_LOGIN}')",
                "found a password in it, expected the URI in uriSecret",
                field=".uri",
            ),
            rule(
                "has(self.uri) == has(oldSelf.uri) && (!has(self.uri) || self.uri == oldSelf.uri)",
                f"it cannot change: {_ELSEWHERE}",
                field=".uri",
            ),
        )
    )

    type: Literal["sql", "rest"] = Field(
        default="sql",
        description="sql: tables of a database, through SQLAlchemy; rest: an Iceberg REST catalog.",
        json_schema_extra=unchanging(_ELSEWHERE),
    )
    uri: Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://[!-~]+$", max_length=1024)] | None = Field(
        default=None, description="Where the catalog is, if the URI holds no password. Cannot change."
    )
    # The reference may change though it cannot be seen what it leads to: that is how credentials are rotated.
    uri_secret: SecretKeyRef | None = Field(default=None, description="Where the URI is, if it holds a password.")

    @model_validator(mode="after")
    def _one_uri(self) -> Self:
        if (self.uri is None) == (self.uri_secret is None):
            found = "none" if self.uri is None else "both"
            raise contradiction("uri", found, "exactly one of uri and uriSecret")
        if self.uri is None:
            return self
        if re.match("https?://", self.uri) and self.type != "rest":
            raise contradiction("uri", f"an HTTP URL and type {self.type}", "a SQLAlchemy URI, or type rest")
        if not re.match("https?://", self.uri) and self.type == "rest":
            raise contradiction("uri", f"no HTTP URL and type {self.type}", "an http or https URL, or type sql")
        if re.search(_WITH_LOGIN, self.uri):
            raise contradiction("uri", "a password in it", "the URI in uriSecret")
        return self


class S3Spec(Model):
    """Object storage that speaks S3."""

    # May change: the catalog knows the files by bucket and key, and reads fail loudly where they are not.
    endpoint: HttpUrl | None = Field(default=None, description="Without a path; none: that of AWS.")
    region: str = Field(
        default="us-east-1", pattern=r"^[a-z0-9-]+$", max_length=63, description="As the store names it."
    )
    access_key_secret: SecretKeyRef = Field(description="Where the access key is.")
    secret_key_secret: SecretKeyRef = Field(description="Where the secret key is.")


class StorageSpec(Model):
    """A catalog and a warehouse that exist already; without this part the laptop or the chart brings them."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.s3) || self.warehouse.startsWith('s3://')",
                "found S3 settings for a warehouse on disk, expected none, or a warehouse at s3://",
                field=".s3",
            )
        )
    )

    catalog: CatalogSpec = Field(description="The Iceberg catalog.")
    warehouse: str = Field(
        pattern=r"^(s3://[a-z0-9][a-z0-9.-]+(/[!-~]*)?|file:///[!-~]*)$",
        max_length=1024,
        description="Below this URL, s3:// or file:///, lie the tables' files. Cannot change.",
        json_schema_extra=unchanging(_ELSEWHERE),
    )
    s3: S3Spec | None = Field(default=None, description="How to reach an s3:// warehouse.")
    retention_days: int | None = Field(
        default=None,
        ge=1,
        le=36500,
        description="Days of event time (UTC) that the table of trades keeps, beside today; none: all. What is older "
        "leaves it within the hour; its files go once snapshots that show them are older than snapshotRetentionDays.",
    )

    @model_validator(mode="after")
    def _s3_for_s3(self) -> Self:
        if self.s3 is not None and not self.warehouse.startswith("s3://"):
            raise contradiction("s3", "S3 settings for a warehouse on disk", "none, or a warehouse at s3://")
        return self


class RedisSpec(Model):
    """A Redis that exists already, for the ids of sources that do not number their trades."""

    address: str = Field(pattern=rf"^{_HOST_AND_PORT}$", max_length=255, description="host:port")
    tls: bool = Field(default=False, description="Whether to speak TLS, verified.")
    password_secret: SecretKeyRef | None = Field(default=None, description="Where the password is; none: no login.")


class TrinoSpec(Model):
    """A Trino that exists already, 418 or newer, with an Iceberg catalog over the pipeline's catalog and warehouse."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.passwordSecret) || !has(self.tokenSecret)",
                "found a password and a token, expected at most one of the two",
                field=".tokenSecret",
            ),
            rule(
                "self.url.startsWith('https://') || "
                "!has(self.passwordSecret) && !has(self.tokenSecret) && !has(self.caSecret)",
                "found a secret or a CA without TLS, expected none, or https://",
                field=".url",
            ),
        )
    )

    url: HttpUrl = Field(description="Of the coordinator, without a path.")
    catalog: str = Field(
        default="k2", pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=63, description="As Trino calls the Iceberg catalog."
    )
    user: str = Field(
        default="k2", pattern=r"^[A-Za-z0-9._@-]+$", max_length=255, description="For whom K2's queries run."
    )
    password_secret: SecretKeyRef | None = Field(default=None, description="Where the user's password is.")
    token_secret: SecretKeyRef | None = Field(default=None, description="Where a JSON web token is, instead of one.")
    ca_secret: SecretKeyRef | None = Field(
        default=None, description="PEM certificates of the CA; none: those that are known everywhere."
    )

    @model_validator(mode="after")
    def _secrets_over_tls(self) -> Self:
        if self.password_secret is not None and self.token_secret is not None:
            raise contradiction("tokenSecret", "a password and a token", "at most one of the two")
        secrets = (self.password_secret, self.token_secret, self.ca_secret)
        if any(secrets) and not self.url.startswith("https://"):
            raise contradiction("url", "a secret or a CA without TLS", "none, or https://")
        return self
