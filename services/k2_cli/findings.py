"""The table of findings of a state folder, for `k2 quality`. Imports what table formats need."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue, BooleanExpression, EqualTo

from k2_cli.environment import folder_settings
from k2_cli.folder import StateFolder
from k2_core.quality import FINDINGS, QUALITY, Checked
from k2_core.records import TRADES
from k2_core.spec import load_pipeline
from k2_core.tables import answering, load_table, open_catalog


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found, and how far was looked.

    Args:
        rows: In the form FINDINGS.
        checked: The Iceberg sequence number of the trades table up to which was looked.
        committed: That of its head.
    """

    rows: pa.Table
    checked: int
    committed: int


def read_findings(folder: StateFolder, symbol: str | None) -> Findings:
    """Read them.

    Args:
        folder: Of the pipeline.
        symbol: Only of this one; None: all.

    Raises:
        SetupError: No pipeline has ever run on the folder.
        StateError: The table of findings holds something else.
        RetryableError: Catalog or warehouse is away.
    """
    folder.require_data()
    pipeline = load_pipeline(folder.pipeline_file)
    catalog, namespace = open_catalog(folder_settings(pipeline, folder)), pipeline.spec.namespace
    trades, quality = load_table(catalog, namespace, TRADES), load_table(catalog, namespace, QUALITY)
    head = trades.current_snapshot() if trades is not None else None
    committed = (head.sequence_number or 0) if head is not None else 0
    if trades is None or quality is None:
        return Findings(FINDINGS.empty_table(), 0, committed)
    checked = Checked.of(quality.properties, str(trades.metadata.table_uuid)).sequence_number
    wanted: BooleanExpression = AlwaysTrue() if symbol is None else EqualTo(term="symbol", value=symbol)
    with answering(quality.location(), quality.io.properties):
        return Findings(quality.scan(row_filter=wanted).to_arrow().cast(FINDINGS), checked, committed)
