"""The trades table of a state folder, for the commands that read it. Imports what table formats need."""

from __future__ import annotations

from k2_cli.environment import folder_settings
from k2_cli.folder import StateFolder
from k2_cli.lake import Lake
from k2_core.spec import load_pipeline
from k2_core.tables import open_catalog


def open_lake(folder: StateFolder) -> Lake | None:
    """Return the table at its head, or None if the pipeline has not made it yet.

    Raises:
        SetupError: No pipeline has ever run on the folder.
        CatalogUnavailableError: The catalog does not answer.
    """
    folder.require_data()
    pipeline = load_pipeline(folder.pipeline_file)
    return Lake.open(open_catalog(folder_settings(pipeline, folder)), pipeline.spec.namespace)
