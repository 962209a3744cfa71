"""K2Pipelines over the API server's own HTTP: what tests send as documents, and what it says to them.

Without kubectl, so that hundreds of documents are judged in seconds. Everything is asked as strictly as kubectl asks:
unknown fields are refused.
"""

from __future__ import annotations

import base64
import copy
import ssl
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
import yaml

from crds.definition import FILE, definition
from k2_core.spec import API_VERSION, KIND

Document = dict[str, Any]

_TIMEOUT_S: Final = 30.0
_DEFINITIONS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_STRICT: Final = {"fieldValidation": "Strict"}
_DRY: Final = {**_STRICT, "dryRun": "All"}

SMALLEST: Final[Document] = {
    "apiVersion": API_VERSION,
    "kind": KIND,
    "metadata": {"name": "trades"},
    "spec": {"ingestion": [{"name": "binance", "venue": "binance", "symbols": [{"name": "BTCUSDT"}]}]},
}


def patched(document: Document, patch: Any) -> Document:
    """Return the document after a merge patch (RFC 7396): mappings merge, a null deletes, all else replaces."""
    merged = copy.deepcopy(document)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            inner = merged.get(key)
            merged[key] = patched(inner if isinstance(inner, dict) else {}, value)
        else:
            merged[key] = value
    return merged


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said.

    Args:
        accepted: Whether it took the document.
        document: The resource as it is stored, or the status that says why not.
    """

    accepted: bool
    document: Document

    @property
    def message(self) -> str:
        """Why not."""
        return str(self.document.get("message", ""))

    @property
    def spec(self) -> Document:
        """Of what was taken."""
        assert self.accepted, self.message
        return dict(self.document["spec"])


class PipelineApi:
    """K2Pipelines of one namespace."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._client = httpx.Client(base_url=cluster["server"], verify=_tls(cluster, user), timeout=_TIMEOUT_S)
        self._namespace = namespace
        self._path = f"/apis/{API_VERSION}/namespaces/{namespace}/{KIND.lower()}s"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def install(self) -> None:
        """Apply the definition that ships and make the namespace; waits until pipelines can be made."""
        made = (
            # By force: other tests of the same API server may have installed it under another name.
            self.apply(f"{_DEFINITIONS}/{definition()['metadata']['name']}", FILE.read_text(), force=True),
            self.apply(
                f"/api/v1/namespaces/{self._namespace}",
                yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._namespace}}),
            ),
        )
        assert all(answer.accepted for answer in made), [answer.message for answer in made]
        deadline = time.monotonic() + _TIMEOUT_S
        while not self.judge(SMALLEST).accepted:
            assert time.monotonic() < deadline, self.judge(SMALLEST).message
            time.sleep(0.1)

    def apply(self, path: str, text: str, manager: str = "tests", *, force: bool = False) -> Answer:
        """Server-side apply."""
        headers = {"Content-Type": "application/apply-patch+yaml"}
        parameters = {**_STRICT, "fieldManager": manager, "force": "true" if force else "false"}
        return _answer(self._client.patch(path, content=text.encode(), params=parameters, headers=headers))

    def apply_status(self, name: str, status: Document, manager: str = "k2-operator") -> Answer:
        """Server-side apply of a status, as the operator does it."""
        document = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "status": status}
        return self.apply(f"{self._path}/{name}/status", yaml.safe_dump(document), manager)

    def judge(self, document: Document) -> Answer:
        """Ask whether a document would be taken; nothing is kept."""
        return _answer(self._client.post(self._path, json=document, params=_DRY))

    def judge_change(self, document: Document) -> Answer:
        """Ask whether a document would be taken in the place of the one of its name; nothing is kept."""
        return _answer(self._client.put(f"{self._path}/{document['metadata']['name']}", json=document, params=_DRY))

    def create(self, document: Document) -> Answer:
        """Make it."""
        return _answer(self._client.post(self._path, json=document, params=_STRICT))

    def delete(self, name: str) -> None:
        """Remove it."""
        self._client.delete(f"{self._path}/{name}").raise_for_status()

    def scale(self, name: str, replicas: int) -> Answer:
        """Change the number of sinks through the scale subresource; nothing is kept."""
        path = f"{self._path}/{name}/scale"
        document = self._client.get(path).raise_for_status().json()
        document["spec"]["replicas"] = replicas
        return _answer(self._client.put(path, json=document, params=_DRY))

    def table(self, name: str) -> dict[str, Any]:
        """Return what `kubectl get` shows: cells by column."""
        headers = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        shown = self._client.get(f"{self._path}/{name}", headers=headers).raise_for_status().json()
        names = [column["name"] for column in shown["columnDefinitions"]]
        return dict(zip(names, shown["rows"][0]["cells"], strict=True))


def _answer(response: httpx.Response) -> Answer:
    # A verdict has a Status; server-side apply gives one of code 500 for what does not fit the schema.
    assert response.status_code not in {502, 503, 504}, response.text
    if response.headers["content-type"] != "application/json":  # of a path that is not served (yet)
        return Answer(response.is_success, {"message": response.text})
    return Answer(response.is_success, response.json())


def _tls(cluster: dict[str, str], user: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=_decoded(cluster["certificate-authority-data"]))
    with tempfile.NamedTemporaryFile("w") as pem:  # the ssl module reads keys from files only
        pem.write(_decoded(user["client-certificate-data"]) + _decoded(user["client-key-data"]))
        pem.flush()
        context.load_cert_chain(pem.name)
    return context


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()
