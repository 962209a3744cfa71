"""The Job that drops a deleted pipeline's tables, on the API server: looked at, begun, replaced, deleted.

Called by `reconcile`. A Job is there for minutes in a pipeline's life, so it is asked for by name and not watched; its
pods, which are, wake the reconcile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from k2_operator.cluster import Cluster
from k2_operator.errors import ApiRefusedError
from k2_operator.names import JOB, Names
from k2_operator.removal import Seen, is_stale
from k2_operator.resource import Resource
from k2_operator.status import Refusal
from k2_operator.store import owner_uid, place_of
from k2_operator.writing import taken

Manifest = Mapping[str, Any]


class Removing:
    """The Jobs of all pipelines.

    Args:
        cluster: The API server.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def look(self, resource: Resource) -> Seen:
        """Return whether there is a Job, or what keeps it from being there or from being known.

        Raises:
            ApiUnavailableError: There is no answer.
        """
        try:
            job = await self._cluster.get(JOB, resource.key.namespace, Names(resource.key.name).removal)
        except ApiRefusedError as error:  # the role of a chart that knew no such Job
            return Seen(problem=str(error))
        if job is not None and owner_uid(job) != resource.uid:
            return Seen(taken=taken(place_of(JOB, job), job))
        return Seen(job)

    async def begin(self, job: Manifest | None, wanted: Manifest) -> Refusal | None:
        """Have a Job that is as it should be, or on the way to it; return why it cannot be.

        Args:
            job: What is there of the pipeline's.
            wanted: What is to be there.

        Raises:
            ApiUnavailableError: There is no answer.
        """
        if job is not None and is_stale(job, wanted):
            await self.end(job)  # the next reconcile makes another
        if job is not None:
            return None
        try:
            await self._cluster.apply(wanted)
        except ApiRefusedError as error:
            return Refusal(
                "ApiRefused", f"Job {wanted['metadata']['name']}: {error}; correct the pipeline, or the operator's role"
            )
        return None

    async def end(self, job: Manifest | None) -> None:
        """Delete the Job, if there is one."""
        if job is not None and "deletionTimestamp" not in job["metadata"]:
            metadata = job["metadata"]
            await self._cluster.delete(JOB, metadata["namespace"], metadata["name"], metadata["uid"])
