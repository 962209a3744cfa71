"""Opens what `k2 maintain` works with: the pipeline's catalog and its Trino. Imports what table formats need."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

from k2_cli.environment import service_environment, settings_of
from k2_cli.folder import StateFolder
from k2_core.spec import Pipeline
from k2_core.tables import open_catalog
from k2_query.engines import trino_client
from k2_query.maintenance.statements import session
from k2_query.maintenance.upkeep import Upkeep
from k2_query.settings import QuerySettings

_NO_KAFKA = "127.0.0.1:0"


@contextmanager
def opened(
    pipeline: Pipeline, folder: StateFolder, environment: Mapping[str, str], keep_days: int | None
) -> Iterator[Upkeep]:
    """Return the maintenance of a pipeline for as long as the block runs.

    Args:
        pipeline: Of mode distributed.
        folder: Where its state lies.
        environment: The user's own, with the secrets that the pipeline refers to.
        keep_days: How long snapshots and files that nothing names are kept; None: as the pipeline says.

    Raises:
        SpecError: A secret is missing, or no Trino could read this lake.
        CatalogUnavailableError: The catalog does not answer.
    """
    variables = service_environment(pipeline, folder, _NO_KAFKA, folder.pipeline_file, environment)
    settings = settings_of(QuerySettings, variables)
    days = pipeline.spec.maintenance.snapshot_retention_days if keep_days is None else keep_days
    keep = dt.timedelta(days=days)
    client = trino_client(settings, 1, session=session(settings.trino_catalog, keep))
    with closing(client), closing(open_catalog(settings)) as catalog:
        yield Upkeep(catalog, client, settings.trino_catalog, pipeline.spec.namespace, keep)
