"""The routes, and nothing but: each reads its parameters, asks the service, and wraps the answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Path, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import APIKeyHeader
from starlette.exceptions import HTTPException
from starlette.responses import Response

from k2_core.errors import K2Error, QueryError
from k2_core.health import Check, report
from k2_core.metrics import CONTENT_TYPE as METRICS_TYPE
from k2_core.metrics import exposition
from k2_query.auth import KEY_HEADER, KeyRing
from k2_query.budget import Budget
from k2_query.encode import to_json
from k2_query.middleware import EveryRequest, respond
from k2_query.params import RecentQuery, SnapshotsQuery, SummaryQuery, Symbol, TradesQuery
from k2_query.problems import OVERLOADED, of_error, of_status, of_validation
from k2_query.runner import OverloadedError, Runner
from k2_query.runtime import Runtime
from k2_query.service import Answer

DESCRIPTION: Final = (
    "Trades from table and log together. Every answer has `data` and `meta`; `meta.complete` is false, with the "
    "ranges, where something that belongs to the answer could not be read. Exact numbers are strings, times are ISO "
    "8601 in UTC."
)
_JSON: Final = "application/json"
_key_header = APIKeyHeader(name=KEY_HEADER, auto_error=False)  # for the documentation; EveryRequest checks it


def create_app(runtime: Runtime, keys: KeyRing, runner: Runner) -> FastAPI:
    """Return the application; it starts and stops the runtime."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with runtime, contextlib.closing(runner):
            yield

    app = FastAPI(title="K2", version=runtime.version, description=DESCRIPTION, lifespan=lifespan, redoc_url=None)
    app.add_middleware(EveryRequest, keys=keys, metrics=runtime.metrics)
    _add_errors(app)
    _add_operations(app, runtime)
    _add_trades(app, runtime, runner)
    _add_tables(app, runtime, runner)
    return app


async def _run(request: Request, runner: Runner, query: Callable[[Budget], Answer]) -> Response:
    started = time.perf_counter()
    answer = await runner.run(request, query)
    meta = answer.meta() | {
        "query_time_ms": round((time.perf_counter() - started) * 1000, 3),
        "correlation_id": request.state.correlation_id,
    }
    return Response(to_json({"data": answer.data, "meta": meta}), media_type=_JSON)


def _only(*names: str) -> list[Any]:
    """Return the dependencies of a route that knows these query parameters."""

    def check(request: Request) -> None:
        seen: set[str] = set()
        for name, _ in request.query_params.multi_items():
            if name not in names:
                raise QueryError(name[:80], f"found an unknown parameter, expected {', '.join(names) or 'none'}")
            if name in seen:
                raise QueryError(name, "found it twice, expected it once")
            seen.add(name)

    return [Depends(check), Security(_key_header)]


def _add_trades(app: FastAPI, runtime: Runtime, runner: Runner) -> None:
    service = runtime.service

    @app.get("/v1/trades", dependencies=_only(*TradesQuery.model_fields))
    async def trades(request: Request, query: Annotated[TradesQuery, Query()]) -> Response:
        """Trades of a symbol within a time window, from table and log together."""
        return await _run(request, runner, lambda budget: service.trades(query, budget))

    @app.get("/v1/trades/recent", dependencies=_only(*RecentQuery.model_fields))
    async def recent(request: Request, query: Annotated[RecentQuery, Query()]) -> Response:
        """The newest trades of a symbol, newest first."""
        return await _run(request, runner, lambda budget: service.recent(query, budget))

    @app.get("/v1/symbols", dependencies=_only())
    async def symbols(request: Request) -> Response:
        """The symbols that table or log hold, with their first and last event time and what is known of them."""
        return await _run(request, runner, service.symbols)

    @app.get("/v1/summary/{symbol}", dependencies=_only(*SummaryQuery.model_fields))
    async def summary(
        request: Request, symbol: Annotated[Symbol, Path()], query: Annotated[SummaryQuery, Query()]
    ) -> Response:
        """Open, high, low, close, volume and VWAP of each UTC day."""
        return await _run(request, runner, lambda budget: service.summary(symbol, query, budget))


def _add_tables(app: FastAPI, runtime: Runtime, runner: Runner) -> None:
    service = runtime.service

    @app.get("/v1/snapshots", dependencies=_only(*SnapshotsQuery.model_fields))
    async def snapshots(request: Request, query: Annotated[SnapshotsQuery, Query()]) -> Response:
        """The snapshots of the trades table, newest first."""
        return await _run(request, runner, lambda budget: service.snapshots(query.limit, budget))

    @app.get("/v1/tables", dependencies=_only())
    async def tables(request: Request) -> Response:
        """Rows, files, bytes and partitions of each table."""
        return await _run(request, runner, lambda _: service.tables())


def _add_operations(app: FastAPI, runtime: Runtime) -> None:
    @app.get("/health")
    async def health() -> Response:
        """Whether Kafka, the tail and the catalog are well; 503 if one of them is not."""
        healthy, document = report(runtime.checks)
        return Response(to_json(document | runtime.figures()), 200 if healthy else 503, media_type=_JSON)

    @app.get("/livez")
    async def livez() -> Response:
        """Whether the process makes progress: 503 if only a restart can heal it."""
        return _probe(runtime.live)

    @app.get("/readyz")
    async def readyz() -> Response:
        """Whether it can answer: 503 until table and log were seen once; later outages are in the answers' `meta`."""
        return _probe(runtime.ready)

    @app.get("/metrics")
    def metrics() -> Response:
        """Prometheus' text format."""
        runtime.update_gauges()
        return Response(exposition(runtime.metrics.registry), headers={"Content-Type": METRICS_TYPE})


def _probe(checks: Mapping[str, Check]) -> Response:
    content, document = report(checks)
    return Response(to_json(document), 200 if content else 503, media_type=_JSON)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return respond(of_validation(error.errors()), request.state.correlation_id)

    @app.exception_handler(K2Error)
    async def known(request: Request, error: K2Error) -> Response:
        problem = OVERLOADED if isinstance(error, OverloadedError) else of_error(error)
        return respond(problem, request.state.correlation_id)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        problem = of_status(error.status_code, request.url.path, request.method)
        return respond(problem, request.state.correlation_id)
