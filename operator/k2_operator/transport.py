"""The HTTP session towards the API server, shared by Kopf and `cluster`: credentials, counted requests, signs of life.

Made once by `main`. Tokens of service accounts are exchanged by the kubelet about every hour, so the file is read
again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import aiohttp
import kopf
from yarl import URL

from k2_core.errors import SetupError
from k2_operator.metrics import OperatorMetrics
from k2_operator.names import KINDS

REQUEST_TIMEOUT_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 10.0
CONNECTIONS: Final = 64
"""Some 15 watches that stay open, and the writes of the workers."""
TOKEN_EVERY_S: Final = 60.0
SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_PLURALS: Final = frozenset(kind.plural for kind in KINDS.values())
_VERBS: Final = {"POST": "create", "DELETE": "delete", "PUT": "update"}
_log = logging.getLogger(__name__)


@dataclass
class WatchSigns:
    """When each watch last was answered: every one is begun anew each minute, so a silent one is a dead one.

    Args:
        clock: Monotonic seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _seen_s: dict[str, float] = field(default_factory=dict)

    def expect(self, watch: str) -> None:
        """Count from now on a watch that has not been answered yet."""
        self._seen_s.setdefault(watch, self.clock())

    def seen(self, watch: str) -> None:
        """Note an answer."""
        self._seen_s[watch] = self.clock()

    def oldest(self) -> tuple[str, float]:
        """Return the watch that was silent longest, and for how many seconds."""
        if not self._seen_s:
            return "none", 0.0
        watch, at_s = min(self._seen_s.items(), key=lambda item: item[1])
        return watch, self.clock() - at_s


def credentials() -> kopf.ConnectionInfo:
    """Return where the API server is and who we are: in a pod its service account, else the user's kubeconfig.

    Raises:
        SetupError: Neither is there.
    """
    settings = kopf.OperatorSettings()
    try:
        found = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    except kopf.LoginError as error:
        raise SetupError(f"found a kubeconfig that leads nowhere ({error}), expected one with a context") from error
    if found is None:
        raise SetupError("found neither a service account nor a kubeconfig, expected one of them")
    return found


def open_session(info: kopf.ConnectionInfo, metrics: OperatorMetrics, signs: WatchSigns) -> aiohttp.ClientSession:
    """Return a session with these credentials that counts what it does."""
    trace = aiohttp.TraceConfig()

    async def ended(_: aiohttp.ClientSession, __: SimpleNamespace, params: aiohttp.TraceRequestEndParams) -> None:
        verb = verb_of(params.method, params.url)
        metrics.requests.labels(verb, str(params.response.status)).inc()
        if verb == "watch" and params.response.status == 200:
            signs.seen(watch_name(params.url))

    async def failed(
        _: aiohttp.ClientSession, __: SimpleNamespace, params: aiohttp.TraceRequestExceptionParams
    ) -> None:
        metrics.requests.labels(verb_of(params.method, params.url), "error").inc()

    trace.on_request_end.append(ended)
    trace.on_request_exception.append(failed)
    return aiohttp.ClientSession(
        base_url=info.server,
        connector=aiohttp.TCPConnector(ssl=info.as_ssl_context(), limit=CONNECTIONS),
        headers={**info.as_http_headers(), "User-Agent": "k2-operator"},
        timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
        trace_configs=[trace],
    )


def verb_of(method: str, url: URL) -> str:
    """Return the API server's word for a request."""
    if url.query.get("watch") == "true":
        return "watch"
    if method == "GET":
        return "list" if url.parts[-1] in _PLURALS else "get"
    if method == "PATCH":
        return "apply" if "fieldManager" in url.query and "force" in url.query else "patch"
    return _VERBS.get(method, method.lower())


def watch_name(url: URL) -> str:
    """Return what tells one watch from another: its path."""
    return url.path


async def refresh_token(session: aiohttp.ClientSession, folder: Path = SERVICE_ACCOUNT) -> None:
    """Read the service account's token again, for ever; does nothing outside a pod."""
    while (folder / "token").exists():
        await asyncio.sleep(TOKEN_EVERY_S)
        try:
            token = (folder / "token").read_text(encoding="utf-8").strip()
        except OSError as error:
            _log.warning("the token could not be read", extra={"error": str(error)})
            continue
        session.headers["Authorization"] = f"Bearer {token}"
