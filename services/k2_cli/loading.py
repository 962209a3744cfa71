"""`k2 up --once` of a pipeline of files: each file read once, all of it committed, and the account of it.

The account is counted on both sides by code that the pipeline does not use: lines in the file, row numbers in the table
as sets. Called by `k2_cli.up`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc

from k2_cli.completeness import Held
from k2_cli.lake import Lake
from k2_cli.launch import STAGE_SINK
from k2_cli.replay import POLL_S, Replay
from k2_cli.source import Choice
from k2_core.config import ServiceSettings
from k2_core.intervals import IntervalSet
from k2_core.schemas import schema_source
from k2_core.spec import IngestionSpec, Pipeline
from k2_core.storage import s3_properties
from k2_core.tables import open_catalog
from k2_core.types import Symbol
from k2_ingest.files.progress import LogProgress
from k2_ingest.files.reading import SourceFile


@dataclass(frozen=True, slots=True)
class FileAccount:
    """What became of one file; field by field what `--json` prints.

    Args:
        dataset: `source.file` of the pipeline.
        path: Of the file.
        rows: Lines in it.
        committed: Distinct rows that the table holds.
        dead_lettered: Rows that could not become records.
        missing: Rows that are neither.
        duplicates: Rows of the table beyond one for each.
    """

    dataset: str
    path: str
    rows: int
    committed: int
    dead_lettered: int
    missing: int
    duplicates: int

    @classmethod
    def of(cls, dataset: str, path: str, rows: int, held: Held, letters: IntervalSet) -> FileAccount:
        """Return the account of a file with so many rows, of which the table holds some and others are dead letters."""
        left = IntervalSet.of_ranges([(1, rows + 1)]).minus(held.numbers).minus(letters)
        return cls(dataset, path, rows, len(held.numbers), len(letters), len(left), held.repeated)


@dataclass(frozen=True, slots=True)
class LoadAccount:
    """All files of a run.

    Args:
        files: In the order of the pipeline.
        wall_s: From the start of reading to the last commit.
    """

    files: tuple[FileAccount, ...]
    wall_s: float

    @property
    def exact(self) -> bool:
        """Whether each row is in the table once, or a dead letter."""
        return not any(file.missing or file.duplicates for file in self.files)

    def document(self) -> dict[str, object]:
        """Return what `--json` prints."""
        rows = sum(file.rows for file in self.files)
        rate = round(rows / self.wall_s, 1) if self.wall_s else None
        return {"files": [asdict(file) for file in self.files], "wall_s": round(self.wall_s, 3), "rows_per_s": rate}

    def complaints(self) -> list[str]:
        """Return what is wrong, a line each."""
        found = ((file, what, getattr(file, what)) for file in self.files for what in ("missing", "duplicates"))
        return [f"{file.dataset}: {count:,} rows are {what}" for file, what, count in found if count]


class Load(Replay):
    """One run over all files of a stack; see `Replay` for its parts."""

    def load(self, choice: Choice) -> LoadAccount:
        """Read everything, drain the sinks and count; the other processes still run afterwards.

        Args:
            choice: What other commands are told of the source.

        Raises:
            K2Error: It could not start, or could not go on.
        """
        self._start()
        begun = time.monotonic()
        ingests = self._stack.start_ingest(None, stop_at_end=True)
        self._stack.write_run(choice)
        while not all(child.ended for child in ingests):
            self._check()
            time.sleep(POLL_S)
        self._say("all files are in the log; committing")
        self._supervisor.stop(STAGE_SINK)
        wall_s = time.monotonic() - begun
        return LoadAccount(tuple(accounts(self._stack.settings, self._stack.pipeline)), wall_s)


def accounts(settings: ServiceSettings, pipeline: Pipeline) -> Iterable[FileAccount]:
    """Yield the account of each file of a pipeline, as log and table are now.

    Raises:
        K2Error: A file, the table or Kafka cannot be read.
    """
    lake = Lake.open(open_catalog(settings), pipeline.spec.namespace)
    held = rows_held(lake.read(("market", "sequence")) if lake is not None else ())
    for source in pipeline.spec.ingestion:
        yield from _of_source(settings, pipeline, source, held)


def _of_source(
    settings: ServiceSettings, pipeline: Pipeline, source: IngestionSpec, held: Mapping[str, Held]
) -> Iterable[FileAccount]:
    topic, properties = pipeline.trades_topic(source), s3_properties(settings)
    datasets = {source.dataset(file): Symbol(file.symbol) for file in source.files or ()}
    log = LogProgress(settings, topic, pipeline.trades_topics()[topic], schema_source(settings)).of(datasets)
    for spec in source.files or ():
        name, file = source.dataset(spec), SourceFile(spec.path, properties)
        letters = log[name].letters.get(file.digest(), IntervalSet())
        yield FileAccount.of(name, spec.path, count_lines(file.blocks()), held.get(name, Held()), letters)


def rows_held(parts: Iterable[pa.Table]) -> dict[str, Held]:
    """Return the row numbers that a table holds, by dataset.

    Args:
        parts: `market` and `sequence` of its rows.
    """
    found: dict[str, Held] = {}
    for rows in parts:
        for name in pc.unique(rows.column("market")).to_pylist():
            numbers = rows.filter(pc.equal(rows.column("market"), name)).column("sequence")
            found.setdefault(name, Held()).add(numbers.combine_chunks())
    return found


def count_lines(blocks: Iterable[bytes]) -> int:
    """Return how many lines there are; the last may lack its end."""
    count, last = 0, b"\n"
    for block in blocks:
        count, last = count + block.count(b"\n"), block[-1:]
    return count + (last != b"\n")
