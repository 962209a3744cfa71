"""Questions to Trino over HTTP: one at a time a caller, each within its budget, cancelled at Trino when it is over.

The one place that meets Trino. Called by `k2_query.trino_engine` in worker threads; a question is bound, sent and read
by the `trino` client, whose every request passes `_Session`. Nothing is cancelled from another thread: Trino answers
each request within a second, so a worker sees that its budget is over and cancels its own query.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests
import trino.auth
import trino.dbapi
from pydantic import SecretStr
from requests.adapters import HTTPAdapter

from k2_core.errors import EngineError, EngineUnavailableError, SpecError
from k2_core.logs import current_correlation_id
from k2_query.budget import Budget
from k2_query.caller import current_key_id
from k2_query.trino_faults import FAULTS, fault
from k2_query.trino_metrics import Asked, Outcome, Purpose, Told, outcome_of

MINIMUM_VERSION: Final = 418
"""The first with EXECUTE IMMEDIATE, which binds parameters in one request; K2 is tested with 476."""
BATCH_ROWS: Final = 1_000
"""Rows that are Python objects at once, on their way to Arrow; Trino's own pages are some 10,000 of K2's."""
CONNECT_TIMEOUT_S: Final = 3.0
READ_TIMEOUT_S: Final = 10.0
"""Without a byte. Trino answers after a second at the latest, if only that there is nothing yet."""
ATTEMPTS: Final = 3
"""Of one request, 0.1 s and more apart: a proxy's 502 or a closed connection is no reason to lose a query."""
_CANCEL_TIMEOUT_S: Final = 2.0
_SOURCE: Final = "k2"
_TAG: Final = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True, slots=True)
class TrinoServer:
    """Where Trino is and how it is asked.

    Args:
        url: `http://` or `https://`, host and port.
        user: For whom queries run.
        catalog: Its Iceberg catalog over the pipeline's lake.
        password: None without.
        token: A JSON web token instead of a password, None without.
        ca_file: PEM file of the authority that signed its certificate; None means those that Mozilla trusts.

    Raises:
        SpecError: Secrets would travel without TLS, or there are two.
    """

    url: str
    user: str
    catalog: str
    password: SecretStr | None = None
    token: SecretStr | None = None
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        if self.password is not None and self.token is not None:
            raise SpecError("K2_TRINO_PASSWORD", "a password and a token", "one of them")
        if (self.password or self.token) and not self.url.startswith("https://"):
            raise SpecError(
                "K2_TRINO_URL", f"{self.url} with a secret", "https://, so that it does not travel in clear"
            )

    @property
    def auth(self) -> trino.auth.Authentication | None:
        """How the client proves who it is."""
        if self.password is not None:
            return trino.auth.BasicAuthentication(self.user, self.password.get_secret_value())
        if self.token is not None:
            return trino.auth.JWTAuthentication(self.token.get_secret_value())
        return None


class TrinoClient:
    """Asks one Trino. Thread-safe; connections are shared.

    Args:
        server: Where it is.
        connections: How many are kept open.
        minimum_version: Of Trino.
        told: Is told of each question once it is over.
        session: Session properties of each question, beside its limit of time.
    """

    def __init__(
        self,
        server: TrinoServer,
        *,
        connections: int,
        minimum_version: int = MINIMUM_VERSION,
        told: Told = lambda _: None,
        session: Mapping[str, str] | None = None,
    ) -> None:
        self._server = server
        self._told = told
        self._properties = dict(session or {})
        self._adapter = HTTPAdapter(pool_maxsize=connections)
        self._minimum_version = minimum_version
        self._version: int | None = None

    def close(self) -> None:
        """Close the connections."""
        self._adapter.close()

    def ask(
        self, text: str, parameters: Sequence[Any], budget: Budget, purpose: Purpose = Purpose.ANSWER
    ) -> Iterator[list[Sequence[Any]]]:
        """Yield an answer's rows in batches, as they come; a caller that goes away ends the query.

        Args:
            text: With a `?` for each parameter.
            parameters: Texts, integers, datetimes.
            budget: Of the question.
            purpose: Why it is asked.

        Raises:
            RetryableError: The budget is over, or Trino or the warehouse does not answer.
            EngineError: Trino refuses until somebody changes something.
            QueryError: The answer needs more than Trino may use.
        """
        began_s, outcome, statistics = time.monotonic(), Outcome.OK, dict[str, Any]()
        try:
            yield from self._answer(text, parameters, budget, statistics)
        except BaseException as error:  # policy: counted, and raised as it is
            outcome = outcome_of(error, budget)
            raise
        finally:
            self._told(Asked(purpose, outcome, time.monotonic() - began_s, statistics))

    def _answer(
        self, text: str, parameters: Sequence[Any], budget: Budget, statistics: dict[str, Any]
    ) -> Iterator[list[Sequence[Any]]]:
        """See `ask`; statistics are brought up to date with each of Trino's answers."""
        session = _Session(self._server, self._adapter, budget)
        try:
            self._check_version(session)
            cursor = self._connect(session, budget).cursor(stats_callback=statistics.update)
            with _cancelled_unless_finished(cursor):
                cursor.execute(text, list(parameters))
                while batch := cursor.fetchmany(BATCH_ROWS):
                    yield batch
        except FAULTS as error:
            budget.check()
            self._version = None  # it may be another one that comes back
            raise fault(error, self._server.url) from error

    def _connect(self, session: _Session, budget: Budget) -> Any:
        return trino.dbapi.Connection(
            host=self._server.url,
            user=self._server.user,
            source=_SOURCE,
            catalog=self._server.catalog,
            http_session=session,
            max_attempts=ATTEMPTS,
            client_tags=list(client_tags()),
            timezone="UTC",
            # Trino ends it by itself, should this process not live to cancel it.
            session_properties=self._properties
            | {"query_max_run_time": f"{max(1, round(budget.remaining_s * 1000))}ms"},
            legacy_prepared_statements=False,
            # None: rows come in the answers themselves; spooled segments are for answers far above 10,000 rows.
            encoding=None,  # type: ignore[arg-type]
        )

    def _check_version(self, session: _Session) -> None:
        """Look once whether this Trino will do.

        Raises:
            EngineError: It is too old, or no Trino.
            EngineUnavailableError: It is starting.
        """
        if self._version is not None:
            return
        url = self._server.url
        answer = session.get(f"{url}/v1/info")
        try:
            info = answer.json() if answer.ok else {}
            found = re.match(r"\d+", info["nodeVersion"]["version"])
        except (ValueError, KeyError, TypeError):
            found = None
        if found is None:
            said = f"found HTTP {answer.status_code} and no version at /v1/info"
            retry = answer.status_code >= 500
            kind = EngineUnavailableError if retry else EngineError
            raise kind(f"Trino at {url}: {said}, expected Trino; check spec.query.trino.url")
        if info.get("starting"):
            raise EngineUnavailableError(f"Trino at {url}: found it starting, expected it to have started; retry")
        if int(found[0]) < self._minimum_version:
            raise EngineError(f"Trino at {url}: found version {found[0]}, expected {self._minimum_version} or newer")
        self._version = int(found[0])


def client_tags() -> Iterator[str]:
    """Yield what tells in Trino's own records whose query it was: the key's id and the request's correlation id."""
    for name, value in (("key", current_key_id()), ("correlation", current_correlation_id())):
        if value is not None:
            yield f"{name}:{_TAG.sub('_', value)}"


class _Session(requests.Session):
    """The HTTP of one question: no request begins after the budget's end, and none waits beyond it."""

    def __init__(self, server: TrinoServer, adapter: HTTPAdapter, budget: Budget) -> None:
        super().__init__()
        self.trust_env = False  # no proxy and no ~/.netrc of whoever runs this
        self.verify = True if server.ca_file is None else str(server.ca_file)
        for scheme in ("http://", "https://"):
            self.mount(scheme, adapter)
        if (auth := server.auth) is not None:
            auth.set_http_session(self)
        self._budget = budget

    def request(self, method: str, url: Any, *rest: Any, **options: Any) -> requests.Response:
        """See `requests.Session.request`. A query is cancelled whether or not there is time left."""
        options["timeout"] = _CANCEL_TIMEOUT_S
        if method != "DELETE":
            self._budget.check()
            left = self._budget.remaining_s
            options["timeout"] = (min(CONNECT_TIMEOUT_S, left), min(READ_TIMEOUT_S, left))
        return super().request(method, url, *rest, **options)


@contextlib.contextmanager
def _cancelled_unless_finished(cursor: Any) -> Iterator[None]:
    """Cancel a query at Trino when the block ends before the query does, for whatever reason."""
    try:
        yield
    except BaseException:
        # policy: what went wrong is what counts; a query that could not be cancelled ends by its own limit of time
        with contextlib.suppress(*FAULTS, trino.dbapi.OperationalError):
            cursor.cancel()
        raise
