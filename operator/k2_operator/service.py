"""The operator as one process: Kopf's watch, the operator's own, the looks at Kafka, the workers, the probes.

Called by `main`. Wires and starts; what is done is done by the parts.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
import kopf

from k2_core.errors import K2Error, RetryableError, SetupError
from k2_core.health import Check
from k2_core.metrics import new_registry
from k2_operator import handlers, health
from k2_operator.autoscalers import Autoscalers
from k2_operator.cluster import Cluster, path
from k2_operator.config import OperatorConfig
from k2_operator.controllers import Controllers
from k2_operator.decided import Decided
from k2_operator.metrics import OperatorMetrics
from k2_operator.names import AUTOSCALER, CHILD_KINDS, MANAGED_LABEL, MANAGER, PIPELINE, POD, SCALED_OBJECT, Kind
from k2_operator.observe import KubernetesSecrets, Observer
from k2_operator.pipelines import Pipelines
from k2_operator.reconcile import Parts, Reconciler
from k2_operator.reporting import Reporter
from k2_operator.signals import Answer
from k2_operator.store import Key, Place, Store
from k2_operator.transport import WatchSigns, credentials, open_session, refresh_token
from k2_operator.watch import Follower, Watch
from k2_operator.workqueue import WorkQueue
from k2_operator.writing import Writer

WORKERS: Final = 8
SYNC_TIMEOUT_S: Final = 60.0
FIGURES_EVERY_S: Final = 5.0
WRITTEN_AGAIN_S: Final = 1.0
"""After a write: its watch has usually told by then."""
SELECTOR: Final = f"{MANAGED_LABEL}={MANAGER}"

_log = logging.getLogger(__name__)


class Children(Follower):
    """Takes the events of children and pods in and wakes their pipelines.

    Args:
        store: Keeps them.
        queue: Is woken.
    """

    def __init__(self, store: Store, queue: WorkQueue) -> None:
        self._store = store
        self._queue = queue

    def put(self, kind: Kind, body: Mapping[str, Any]) -> None:
        """Take an object in."""
        self._wake(self._store.put(kind, body))

    def drop(self, place: Place, version: int | None) -> None:
        """Forget one."""
        self._wake(self._store.drop(place, version))

    def standing(self, kind: Kind, namespace: str | None) -> list[Place]:
        """Return what is known."""
        return self._store.places(kind, () if namespace is None else (namespace,))

    def _wake(self, key: Key | None) -> None:
        if key is not None:
            self._queue.wake(key)


class Service:
    """Everything of one operator.

    Args:
        config: Its configuration.
        session: Towards the API server.
        metrics: Its figures; sessions count in them.
        signs: When watches were answered; sessions note it.
    """

    def __init__(
        self,
        config: OperatorConfig,
        session: aiohttp.ClientSession,
        metrics: OperatorMetrics,
        signs: WatchSigns,
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._signs = signs
        self._cluster = Cluster(session, config.watch_seconds)
        self._pipelines = Pipelines()
        self._store = Store()
        self._queue = WorkQueue()
        self._autoscalers = Autoscalers(self._autoscaler_changed)
        self._observer = Observer(KubernetesSecrets(self._cluster), config.resync_seconds, self._looked)
        self._controllers = Controllers(self._decided)
        self._reconciler = Reconciler(
            Parts(
                cluster=self._cluster,
                pipelines=self._pipelines,
                store=self._store,
                writer=Writer(self._cluster, self._store, self._autoscalers, wake=self._written),
                observer=self._observer,
                controllers=self._controllers,
                reporter=Reporter(self._cluster, self._pipelines, metrics, config.drain_timeout_seconds),
                config=config,
                wake_later=self._queue.wake_later,
            )
        )
        self._watches: list[Watch] = []
        self._synced = False

    @property
    def live(self) -> dict[str, Check]:
        """What `/livez` asks."""
        return health.live_checks(
            self._signs, self._queue, self._config.watch_seconds, self._config.reconcile_limit_seconds
        )

    @property
    def ready(self) -> dict[str, Check]:
        """What `/readyz` asks."""
        return {"synced": lambda: None if self._synced else "found watches that have not listed everything yet"}

    async def run(self) -> None:
        """Run until Kopf takes a signal to stop, this is cancelled, or a part ends that must not.

        Raises:
            SetupError: The resource definition is not installed.
            RetryableError: The API server did not answer in time, or a part ended.
        """
        if not await self._cluster.serves(PIPELINE):
            raise SetupError(f"found no {PIPELINE.plural} in the cluster, expected the chart's resource definition")
        await self._prepare_watches()
        tasks = [self._task(f"watch {watch.kind.plural}", watch.run()) for watch in self._watches]
        try:
            await self._sync()
            tasks += [self._task(f"worker {number}", self._work()) for number in range(WORKERS)]
            tasks += [
                self._task("looks", self._observer.run()),
                self._task("controllers", self._controllers.run()),
                self._task("figures", self._show_figures()),
                self._task("kopf", self._follow_pipelines()),
            ]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ended = next(iter(done))
            ended.result()
            if ended.get_name() != "kopf":
                raise RetryableError(f"{ended.get_name()}: found it ended, expected it to go on")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._controllers.close()
            self._observer.close()

    @staticmethod
    def _task(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work, name=name)

    # Watches.

    async def _prepare_watches(self) -> None:
        children = Children(self._store, self._queue)
        kinds: list[tuple[Kind, str | None, Follower]] = [(kind, SELECTOR, children) for kind in (*CHILD_KINDS, POD)]
        kinds.append((AUTOSCALER, None, self._autoscalers))
        if await self._cluster.serves(SCALED_OBJECT):
            kinds.append((SCALED_OBJECT, None, self._autoscalers))
        namespaces: list[str | None] = list(self._config.watch_namespaces) or [None]
        self._watches = [
            Watch(self._cluster, kind, namespace, selector, follower)
            for kind, selector, follower in kinds
            for namespace in namespaces
        ]
        for watch in self._watches:
            self._signs.expect(path(watch.kind, watch.namespace))
        for namespace in namespaces:
            self._signs.expect(path(PIPELINE, namespace))

    async def _sync(self) -> None:
        """Wait until all children are known: what is not known to be there would be written anew."""
        try:
            async with asyncio.timeout(SYNC_TIMEOUT_S):
                for watch in self._watches:
                    await watch.synced.wait()
        except TimeoutError as error:
            missing = [watch.kind.plural for watch in self._watches if not watch.synced.is_set()]
            raise RetryableError(
                f"found no list of {', '.join(missing)}, expected one in {SYNC_TIMEOUT_S:g} s"
            ) from error
        self._synced = True

    async def _follow_pipelines(self) -> None:
        namespaces = self._config.watch_namespaces
        await kopf.operator(
            registry=handlers.registry(self._log_in, self._pipelines, self._queue.wake),
            settings=handlers.settings(self._config.watch_seconds),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
        )

    def _log_in(self) -> kopf.AiohttpSession:
        info = credentials()
        session = open_session(info, self._metrics, self._signs)
        return kopf.AiohttpSession(server=info.server, aiohttp_session=session)

    # Work.

    async def _work(self) -> None:
        while True:
            key, woken_s = await self._queue.take()
            try:
                await self._reconciler.reconcile(key)
            except K2Error as error:
                delay_s = self._queue.failed(key)
                outcome = "retry" if isinstance(error, RetryableError) else "refused"
                _log.warning(
                    "reconcile: will be tried again",
                    extra={"pipeline": "/".join(key), "error": str(error), "delay_s": delay_s},
                )
            else:
                self._queue.done(key)
                outcome = "done"
                if key not in self._pipelines:
                    self._queue.forget(key)
            self._metrics.reconciles.labels(outcome).inc()
            self._metrics.duration.observe(time.monotonic() - woken_s)

    def _written(self, key: Key) -> None:
        """Look again soon, not at once: what is written anew each time must not be written without a pause."""
        self._queue.wake_later(key, WRITTEN_AGAIN_S)

    def _looked(self, key: Key, answer: Answer, differs: bool) -> None:  # a callback's signature
        log = answer.log
        self._metrics.show(self._metrics.unread, key, None if log is None else log.unread)
        self._metrics.show(self._metrics.uncommitted, key, None if log is None else log.uncommitted)
        at = None if log is None else log.committed_at
        age_s = None if at is None else max(0.0, (datetime.now(UTC) - at).total_seconds())
        self._metrics.show(self._metrics.committed_age, key, age_s)
        if differs:
            self._queue.wake(key)

    def _decided(self, key: Key, decided: Decided | None, differs: bool) -> None:  # a callback's signature
        self._metrics.show_decided(key, decided)
        if differs:
            self._queue.wake(key)

    def _autoscaler_changed(self, namespace: str, deployment: str) -> None:
        """Wake the pipelines that may have a Deployment of this name."""
        parts = deployment.split("-")
        for length in range(1, len(parts)):
            key = Key(namespace, "-".join(parts[:length]))
            if key in self._pipelines:
                self._queue.wake(key)

    async def _show_figures(self) -> None:
        while True:
            self._metrics.watch_age.set(self._signs.oldest()[1])
            await asyncio.sleep(FIGURES_EVERY_S)


async def until_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """Await work to its end, or cancel it and return once told to stop.

    Raises:
        Exception: Whatever the work raised.
    """
    loop = asyncio.get_running_loop()
    working, stopping = loop.create_task(work, name="service"), loop.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


async def serve(config: OperatorConfig) -> None:
    """Run an operator until SIGTERM.

    Raises:
        K2Error: It cannot go on.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Kopf takes signals only once it runs, after everything is known; until then they would kill the process.
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    registry = new_registry("k2-operator")
    metrics, signs = OperatorMetrics(registry), WatchSigns()
    info = credentials()
    async with open_session(info, metrics, signs) as session:
        service = Service(config, session, metrics, signs)
        host, port = config.listen_host, config.metrics_port
        runner, port = await health.serve(host, port, registry, service.live, service.ready)
        token = asyncio.get_running_loop().create_task(refresh_token(session), name="token")
        _log.info("listening", extra={"host": host, "port": port})
        try:
            await until_stopped(service.run(), stop)
        finally:
            token.cancel()
            await runner.cleanup()
