"""The API server: get, list, watch, apply, delete. The one module that sends requests for the operator itself.

Everything is written by server-side apply as the manager `k2-operator`, never by force unless the caller says so.
Called by `reconcile`, `observe` and `watch`; decides nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import aiohttp
import msgspec

from k2_operator.errors import ApiRefusedError, ApiUnavailableError, FieldConflict, FieldConflictError, GoneError
from k2_operator.names import EVENT, KINDS, MANAGER, Kind

APPLY_PATCH: Final = "application/apply-patch+yaml"
MERGE_PATCH: Final = "application/merge-patch+json"
PAGE: Final = 250
WATCH_SILENCE: Final = 1.5
"""A watch is given up as hanging after so many times the time after which the API server ends it."""
_RETRYABLE: Final = frozenset({408, 429, 500, 502, 503, 504})


class Cluster:
    """What the operator asks of the API server.

    Every method raises ApiUnavailableError when there is no answer or one that says to come again, and ApiRefusedError
    when the API server refuses.

    Args:
        session: With credentials, and the server as its base.
        watch_s: The API server ends a watch after this, and it is begun anew: one that is not is noticed.
    """

    def __init__(self, session: aiohttp.ClientSession, watch_s: int = 60) -> None:
        self._session = session
        self._watch_s = watch_s

    async def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        """Return an object, or None if there is none of that name."""
        try:
            return await self._request("GET", path(kind, namespace, name))
        except ApiRefusedError as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self, kind: Kind, namespace: str | None, selector: str | None = None
    ) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:
        """Yield pages of objects, each with the version from which a watch may go on after the last page."""
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            page = await self._request("GET", path(kind, namespace), query)
            version, more = page["metadata"]["resourceVersion"], page["metadata"].get("continue")
            yield page["items"], version
            if not more:
                return
            query["continue"] = more

    async def watch(
        self, kind: Kind, namespace: str | None, version: str, selector: str | None = None
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield events (`ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`) until the API server ends the watch.

        Raises:
            GoneError: The version is forgotten.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(self._watch_s),
        } | ({"labelSelector": selector} if selector else {})
        timeout = aiohttp.ClientTimeout(total=WATCH_SILENCE * self._watch_s, sock_connect=10.0)
        try:
            async with self._session.get(path(kind, namespace), params=query, timeout=timeout) as response:
                if response.status != 200:
                    raise _refusal(response.status, await response.read())
                async for line in _lines(response.content):
                    yield _event(line)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiUnavailableError(f"watch of {kind.plural}: found {error!r}, expected events") from error

    async def apply(self, manifest: Mapping[str, Any], *, force: bool = False, part: str = "") -> dict[str, Any]:
        """Apply a manifest on the server's side and return the object.

        Args:
            manifest: All fields that the operator owns.
            force: Take over fields of other managers.
            part: A subresource, such as `status`.

        Raises:
            FieldConflictError: Other managers own some of the fields.
        """
        kind, metadata = KINDS[manifest["kind"]], manifest["metadata"]
        query = {"fieldManager": MANAGER, "force": str(force).lower()}
        where = path(kind, metadata["namespace"], metadata["name"]) + (f"/{part}" if part else "")
        return await self._request("PATCH", where, query, manifest, APPLY_PATCH)

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Change some fields; with `metadata.resourceVersion` in it only if nothing else was changed meanwhile."""
        return await self._request("PATCH", path(kind, namespace, name), {"fieldManager": MANAGER}, patch, MERGE_PATCH)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete that very object; one that is gone or another of the name is left alone."""
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._request("DELETE", path(kind, namespace, name), {}, options)
        except ApiRefusedError as error:
            if error.status not in {404, 409}:
                raise

    async def post_event(self, event: Mapping[str, Any]) -> None:
        """Create an Event."""
        await self._request("POST", path(EVENT, event["metadata"]["namespace"]), {}, event)

    async def serves(self, kind: Kind) -> bool:
        """Whether the API server knows a kind."""
        try:
            known = await self._request("GET", kind.path)
        except ApiRefusedError as error:
            if error.status == 404:
                return False
            raise
        return any(one["name"] == kind.plural for one in known["resources"])

    async def _request(
        self,
        method: str,
        where: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        try:
            async with self._session.request(method, where, params=query, data=data, headers=headers) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            raise ApiUnavailableError(f"{method} {where}: found {error!r}, expected an answer") from error
        if response.status >= 300:
            raise _refusal(response.status, content)
        found: dict[str, Any] = msgspec.json.decode(content)
        return found


def path(kind: Kind, namespace: str | None, name: str | None = None) -> str:
    """Return the URL's path of an object, or of all of a kind; None as namespace means all namespaces."""
    where = kind.path + (f"/namespaces/{namespace}" if namespace else "") + f"/{kind.plural}"
    return where if name is None else f"{where}/{name}"


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield lines of any length: aiohttp's own iteration gives up on long ones."""
    rest = b""
    async for chunk in stream.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in filter(None, whole):
            yield line


def _event(line: bytes) -> tuple[str, dict[str, Any]]:
    event = msgspec.json.decode(line)
    if event["type"] == "ERROR":
        status = event["object"]
        raise _refusal(int(status.get("code") or 500), json.dumps(status).encode())
    return event["type"], event["object"]


def _refusal(status: int, content: bytes) -> ApiRefusedError | ApiUnavailableError:
    try:
        answer = msgspec.json.decode(content)
    except msgspec.DecodeError:
        answer = {"message": content[:200].decode(errors="replace")}
    message = str(answer.get("message", ""))
    if status in _RETRYABLE:
        return ApiUnavailableError(f"found status {status} ({message}), expected an answer")
    causes = (answer.get("details") or {}).get("causes") or ()
    if conflicts := field_conflicts(causes):
        return FieldConflictError(message, conflicts)
    return GoneError(status, message) if status == 410 else ApiRefusedError(status, message)


def field_conflicts(causes: Sequence[Mapping[str, str]]) -> list[FieldConflict]:
    """Return the conflicts among an answer's causes.

    The API server writes `conflict with "NAME"` for a manager that applied the field, and adds `using VERSION` for one
    that updated it (k8s.io/apimachinery/pkg/util/managedfields/internal/conflict.go).
    """
    found = []
    for cause in causes:
        if cause.get("reason") != "FieldManagerConflict":
            continue
        text = cause.get("message", "")
        manager = text.partition('"')[2].partition('"')[0]
        found.append(FieldConflict(manager, cause.get("field", ""), declared=" using " not in text))
    return found
