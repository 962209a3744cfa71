"""What Kopf calls: the login, and the watch of K2Pipelines, whose events only wake one reconcile a resource.

Kopf's high-level handlers are not used: they follow edges, and an edge that is missed is lost; a reconcile looks at
what is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import kopf

from k2_operator.cluster import WATCH_SILENCE
from k2_operator.names import PIPELINE
from k2_operator.pipelines import Pipelines, key_of
from k2_operator.store import Key
from k2_operator.transport import CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_S

BACKOFFS_S: Final = (0.5, 1.0, 2.0, 4.0)


def registry(
    login: Callable[[], kopf.AiohttpSession], pipelines: Pipelines, wake: Callable[[Key], None]
) -> kopf.OperatorRegistry:
    """Return Kopf's registry with the two handlers.

    Args:
        login: Returns a session of Kopf's own, which it closes: at the start, and again when a token has expired.
        pipelines: Takes the events in.
        wake: Called with each pipeline that has to be reconciled.
    """
    made = kopf.OperatorRegistry()

    @kopf.on.login(registry=made)
    async def log_in(**_: Any) -> kopf.AiohttpSession:
        return login()

    @kopf.on.event(PIPELINE.group, PIPELINE.api_version.rpartition("/")[2], PIPELINE.plural, registry=made)
    async def seen(event: kopf.RawEvent, **_: Any) -> None:
        body = event["object"]
        key = key_of(body)
        if event["type"] == "DELETED":
            pipelines.drop(key)
            wake(key)
        elif pipelines.put(body):
            wake(key)

    return made


def settings(watch_s: int) -> kopf.OperatorSettings:
    """Return Kopf's settings: short time-outs, no peers, nothing written.

    Args:
        watch_s: The API server ends Kopf's watch after this, and it is begun anew.
    """
    made = kopf.OperatorSettings()
    made.peering.standalone = True  # equal peers freeze one another; one replica and Recreate need none
    made.scanning.disabled = True  # which would watch all namespaces and definitions of the cluster
    made.posting.enabled = False  # Events are the reconciler's, without repeats
    made.networking.request_timeout = REQUEST_TIMEOUT_S  # its default is 300 s
    made.networking.connect_timeout = CONNECT_TIMEOUT_S
    made.networking.error_backoffs = BACKOFFS_S
    made.watching.server_timeout = watch_s
    made.watching.client_timeout = WATCH_SILENCE * watch_s
    made.watching.connect_timeout = CONNECT_TIMEOUT_S
    logging.getLogger("kopf").setLevel(logging.WARNING)
    return made
