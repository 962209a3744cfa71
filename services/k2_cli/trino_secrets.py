"""`k2 trino-secrets`: the two Secrets that a Trino which the operator runs asks for, printed and stored nowhere."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml

from k2_cli import output
from k2_cli.certificates import certified
from k2_core.errors import SpecError
from k2_core.spec import Pipeline, load_pipeline
from k2_core.spec_trino import TrinoClusterSpec

EXAMPLE: Final = "Example:  k2 trino-secrets -f manifests/pipeline-distributed.yaml -n markets | kubectl apply -f -"
ACCESS: Final = "k2-trino-access"
TLS: Final = "k2-trino-tls"
"""What they are called where the pipeline does not name them; docs/operator.md has the chart's values that say so."""
PASSWORD_BYTES: Final = 24
_LONGEST_DAYS: Final = 3650


def trino_secrets(  # noqa: PLR0913  # each an option
    file: Annotated[Path, typer.Option("-f", "--file", help="The pipeline file.")],
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", help="Of the pipeline; without it the file's.")
    ] = None,
    access_name: Annotated[
        str | None,
        typer.Option("--access-name", help=f"Of the Secret with passwords; without it the file's, else {ACCESS}."),
    ] = None,
    tls_name: Annotated[
        str | None,
        typer.Option("--tls-name", help=f"Of the Secret with the certificate; without it the file's, else {TLS}."),
    ] = None,
    days: Annotated[
        int, typer.Option("--days", min=1, max=_LONGEST_DAYS, help="For how long the certificate is valid.")
    ] = 365,
    *,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object, which kubectl takes too.")] = False,
) -> None:
    """Print new Secrets for the Trino that the operator runs: passwords, and a certificate with its own authority.

    Each call makes others; nothing is kept, the authority's key least of all. Applied again, the pods roll.
    """
    pipeline = load_pipeline(file)
    made = manifests(pipeline, namespace=namespace, access_name=access_name, tls_name=tls_name, days=days)
    if json_output:
        output.print_json({"apiVersion": "v1", "kind": "List", "items": made})
    else:
        sys.stdout.write(yaml.dump_all(made, Dumper=_Dumper, sort_keys=False))
        sys.stdout.flush()


def manifests(
    pipeline: Pipeline,
    *,
    namespace: str | None = None,
    access_name: str | None = None,
    tls_name: str | None = None,
    days: int = 365,
) -> list[dict[str, Any]]:
    """Return the two Secrets, with passwords and keys that were never used before.

    Args:
        pipeline: Of mode distributed, without a Trino that exists already.
        namespace: Where the pipeline will be; None: what it says itself.
        access_name: Of the Secret with passwords; None: the pipeline's, else `ACCESS`.
        tls_name: Of the Secret with the certificate; None: the pipeline's, else `TLS`.
        days: For how long the certificate is valid.

    Raises:
        SpecError: The operator runs no Trino for this pipeline.
        SetupError: No Java is there to make the certificate.
    """
    cluster = _cluster(pipeline)
    where = namespace or pipeline.metadata.namespace
    # As the operator calls the coordinator's Service (`k2_operator.names`), which this may not import.
    trino = f"{pipeline.metadata.name}-trino"
    certificate = certified(trino, [f"dns:{trino}.{where}.svc"], days)
    words = {key: secrets.token_hex(PASSWORD_BYTES) for key in ("password", "maintenancePassword", "sharedSecret")}
    files = {"tls.crt": certificate.certificate, "tls.key": certificate.key, "ca.crt": certificate.authority}
    return [
        _secret(where, access_name or cluster.access_secret_name or ACCESS, "Opaque", words),
        _secret(where, tls_name or cluster.tls_secret_name or TLS, "kubernetes.io/tls", files),
    ]


def _cluster(pipeline: Pipeline) -> TrinoClusterSpec:
    query = pipeline.spec.query
    if query.mode != "distributed":
        raise SpecError("spec.query.mode", query.mode, "distributed: without it the operator runs no Trino")
    if query.trino is not None:
        expected = "none: one that exists already has its own users and certificate"
        raise SpecError("spec.query.trino", query.trino.url, expected)
    return query.trino_cluster or TrinoClusterSpec()


def _secret(namespace: str, name: str, kind: str, values: dict[str, str]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "stringData": values}


class _Dumper(yaml.SafeDumper):
    """Writes what has lines as lines."""


def _lines(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _lines)
