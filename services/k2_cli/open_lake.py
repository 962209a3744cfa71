"""The tables of a state folder, for the commands that read them. Imports what table formats need."""

from __future__ import annotations

from k2_cli.environment import folder_settings
from k2_cli.folder import StateFolder
from k2_cli.lake import Lake
from k2_core.ledger_history import LEDGER
from k2_core.letters import DLQ
from k2_core.quality import QUALITY
from k2_core.records import TRADES
from k2_core.spec import load_pipeline
from k2_core.tables import open_catalog


def open_lake(folder: StateFolder) -> Lake | None:
    """Return the trades table at its head, or None if the pipeline has not made it yet.

    Raises:
        SetupError: No pipeline has ever run on the folder.
        CatalogUnavailableError: The catalog does not answer.
    """
    folder.require_data()
    pipeline = load_pipeline(folder.pipeline_file)
    return Lake.open(open_catalog(folder_settings(pipeline, folder)), pipeline.spec.namespace)


def open_lakes(folder: StateFolder) -> list[Lake]:
    """Return all tables that the pipeline has made, each at its head: the trades, then what is derived from them.

    Raises:
        SetupError: No pipeline has ever run on the folder.
        CatalogUnavailableError: The catalog does not answer.
    """
    folder.require_data()
    pipeline = load_pipeline(folder.pipeline_file)
    catalog = open_catalog(folder_settings(pipeline, folder))
    found = [Lake.open(catalog, pipeline.spec.namespace, form) for form in (TRADES, QUALITY, LEDGER, DLQ)]
    return [lake for lake in found if lake is not None]
