"""Watches of children, pods and autoscalers: list once, then follow, for ever.

Started by `main`, one task a kind and namespace. Fills what it is given and wakes nothing itself. A watch that ends is
begun anew where it ended; one whose place is forgotten lists again, and drops what the list no longer has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from k2_core.errors import RetryableError
from k2_operator.cluster import Cluster
from k2_operator.errors import ApiRefusedError, GoneError
from k2_operator.names import Kind
from k2_operator.store import Place, place_of, version_of

RETRY_S: Final = 1.0
REFUSED_RETRY_S: Final = 15.0

_log = logging.getLogger(__name__)


class Follower(Protocol):
    """What takes in the events of watches."""

    def put(self, kind: Kind, body: Mapping[str, Any]) -> None:
        """Take in an object that is new or changed."""

    def drop(self, place: Place, version: int | None) -> None:
        """Forget an object that is gone."""

    def standing(self, kind: Kind, namespace: str | None) -> list[Place]:
        """Return what is known of a kind, in a namespace or all."""


@dataclass
class Watch:
    """One watch.

    Args:
        cluster: The API server.
        kind: What to follow.
        namespace: Where; None means everywhere.
        selector: Labels that objects must have; None means any.
        follower: Takes the events in.
    """

    cluster: Cluster
    kind: Kind
    namespace: str | None
    selector: str | None
    follower: Follower

    def __post_init__(self) -> None:
        self.synced = asyncio.Event()
        """Set once everything that there was at the start is known."""

    async def run(self) -> None:
        """Follow for ever."""
        version: str | None = None
        while True:
            try:
                if version is None:
                    version = await self._list()
                version = await self._follow(version)
            except GoneError:
                version = None
            except RetryableError as error:
                _log.info("watch: begun anew", extra={"watched": self.kind.plural, "error": str(error)})
                await asyncio.sleep(RETRY_S)
            except ApiRefusedError as error:
                _log.error("watch: refused", extra={"watched": self.kind.plural, "error": str(error)})
                version = None
                await asyncio.sleep(REFUSED_RETRY_S)

    async def _list(self) -> str:
        gone = set(self.follower.standing(self.kind, self.namespace))
        version = "0"
        async for page, listed in self.cluster.list(self.kind, self.namespace, self.selector):
            version = listed
            for body in page:
                self.follower.put(self.kind, body)
                gone.discard(place_of(self.kind, body))
        for place in gone:
            self.follower.drop(place, int(version))
        self.synced.set()
        return version

    async def _follow(self, version: str) -> str:
        async for event, body in self.cluster.watch(self.kind, self.namespace, version, self.selector):
            version = body["metadata"]["resourceVersion"]
            if event == "DELETED":
                self.follower.drop(place_of(self.kind, body), version_of(body))
            elif event != "BOOKMARK":
                self.follower.put(self.kind, body)
        return version
