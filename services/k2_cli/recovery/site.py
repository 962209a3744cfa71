"""What all recoveries share: a pipeline's table and Kafka, what they hold, the question, the commit.

They write only through `k2_sink.commit.recover`: one commit, on exactly the head that was shown.
"""

from __future__ import annotations

import getpass
import os
import socket
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import typer
from pyiceberg.table.snapshots import Snapshot

from k2_cli import output
from k2_cli.completeness import Held, Position, positions_of
from k2_cli.environment import folder_settings
from k2_cli.exits import ExitCode
from k2_cli.folder import StateFolder
from k2_cli.lake import Lake
from k2_cli.recovery.options import Asked
from k2_cli.recovery.rebuild import Rows, TopicNow, next_epoch
from k2_cli.stack.kafka import LocalKafka
from k2_core.config import ServiceSettings, read_settings
from k2_core.errors import KafkaUnavailableError, SpecError, StateError, StateFormatError
from k2_core.kafka import KafkaAdmin
from k2_core.spec import Pipeline, load_pipeline
from k2_core.state import RECOVERY_KEY, STATE_KEY, CommitState
from k2_core.tables import open_catalog
from k2_core.topics import topic_name
from k2_core.types import Partition, SnapshotId, TopicId, TopicName
from k2_sink.commit import Recovery, recover

LEADER_TIMEOUT_S: Final = 15.0
LEADER_RETRY_S: Final = 0.2
REASON_KEY: Final = f"{RECOVERY_KEY}.reason"
"""Summary keys of the snapshot that a recovery makes, beside which command it was: why, by whom."""
BY_KEY: Final = f"{RECOVERY_KEY}.by"


@dataclass(frozen=True, slots=True)
class Site:
    """A pipeline and where its state is.

    Args:
        pipeline: Whose table is recovered.
        folder: Of embedded state.
        settings: Of its services; Kafka's address is that of a running `k2 up` or of the pipeline.
        embedded_kafka: Whether Kafka lies in the folder and does not run now.
    """

    pipeline: Pipeline
    folder: StateFolder
    settings: ServiceSettings
    embedded_kafka: bool

    @classmethod
    def open(cls, directory: Path, pipeline_file: Path | None) -> Site:
        """Return the pipeline of a folder, or of a file and the variables that its services have.

        Raises:
            SetupError: No pipeline has ever run on the folder.
            SpecError: The file is wrong.
        """
        folder = StateFolder(directory)
        if pipeline_file is not None and {"K2_CATALOG_URI", "K2_WAREHOUSE"} <= os.environ.keys():
            return cls(load_pipeline(pipeline_file), folder, read_settings(ServiceSettings), embedded_kafka=False)
        if pipeline_file is None:
            folder.require_data()
        pipeline = load_pipeline(pipeline_file or folder.pipeline_file)
        running = folder.running()
        settings = folder_settings(pipeline, folder, running.kafka if running is not None else "127.0.0.1:0")
        return cls(pipeline, folder, settings, embedded_kafka=pipeline.spec.kafka is None and running is None)

    @property
    def uid(self) -> str:
        """What owns the table."""
        return self.settings.pipeline_uid or self.pipeline.uid

    def lake(self) -> Lake:
        """Return the table at its head.

        Raises:
            StateError: There is none, or nothing was ever committed to it: there is nothing to recover.
        """
        lake = Lake.open(open_catalog(self.settings), self.pipeline.spec.namespace)
        if lake is None or lake.snapshot is None:
            name = f"{self.pipeline.spec.namespace}.trades"
            raise StateError(f"table {name}: found no snapshot, expected one; the sink begins an empty table by itself")
        return lake

    @contextmanager
    def kafka(self) -> Iterator[KafkaAdmin]:
        """Give access to the pipeline's Kafka; one that lies in the folder is started for as long as it is needed."""
        if not self.embedded_kafka:
            yield KafkaAdmin(self.settings)
            return
        self.folder.acquire()
        try:
            with LocalKafka(self.folder.root, progress=output.say) as kafka:
                yield KafkaAdmin(folder_settings(self.pipeline, self.folder, kafka.bootstrap_servers))
        finally:
            self.folder.release()


def topics_now(admin: KafkaAdmin, names: Iterable[TopicName]) -> dict[TopicName, TopicNow]:
    """Return the topics of these that exist, waiting for leaders: one that was just made has none for a moment.

    Raises:
        KafkaUnavailableError: Kafka does not answer for all of them in `LEADER_TIMEOUT_S`.
    """
    wanted, deadline_s = list(names), time.monotonic() + LEADER_TIMEOUT_S
    while True:
        try:
            return _topics_at_once(admin, wanted)
        except KafkaUnavailableError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(LEADER_RETRY_S)


def _topics_at_once(admin: KafkaAdmin, names: Iterable[TopicName]) -> dict[TopicName, TopicNow]:
    found: dict[TopicName, TopicNow] = {}
    for name, (topic_id, count) in sorted(admin.describe_topics(names).items()):
        numbers = [Partition(number) for number in range(count)]
        found[name] = TopicNow(topic_id, admin.log_starts(name, numbers), admin.stable_ends(name, numbers))
    return found


def read_rows(lake: Lake, namespace: str) -> Rows:
    """Return what all rows of the snapshot say of the log.

    Raises:
        StorageUnavailableError: A file that the snapshot names cannot be read.
    """
    held: dict[Position, Held] = {}
    names: dict[TopicId, TopicName] = {}
    for rows in lake.read(("topic_id", "kafka_partition", "kafka_offset", "exchange", "asset_class")):
        for at, offsets in positions_of(rows):
            held.setdefault(at, Held()).add(offsets)
        venues = rows.select(["topic_id", "asset_class", "exchange"]).group_by(["topic_id", "asset_class", "exchange"])
        for row in venues.aggregate([]).to_pylist():
            names[TopicId(row["topic_id"])] = topic_name(namespace, row["asset_class"], "trades", row["exchange"])
    return Rows(held, names)


def summary_state(snapshot: Snapshot) -> CommitState | None:
    """Return the state in a snapshot's own summary, or None where it has none that can be read."""
    text = snapshot.summary.additional_properties.get(STATE_KEY) if snapshot.summary else None
    return _parsed(text)


def property_state(lake: Lake) -> CommitState | None:
    """Return the state in the table's property, or None where it has none that can be read."""
    return _parsed(lake.table.properties.get(STATE_KEY))


def _parsed(text: str | None) -> CommitState | None:
    try:
        return CommitState.parse(text) if text is not None else None
    except StateFormatError:  # whatever is put in its place would forget what this version does not know of
        raise
    except StateError:  # policy: a recovery looks for the next best one, and says which it took
        return None


def ancestors(lake: Lake) -> Iterator[Snapshot]:
    """Yield the head and those of its ancestors that are still listed, newest first."""
    snapshots = {snapshot.snapshot_id: snapshot for snapshot in lake.table.metadata.snapshots}
    walk = lake.snapshot
    while walk is not None:
        yield walk
        walk = snapshots.get(walk.parent_snapshot_id) if walk.parent_snapshot_id is not None else None


def raised(state: CommitState, lake: Lake, kind: str) -> CommitState:
    """Return the state with an epoch above every one that the table has seen."""
    seen = [property_state(lake), *map(summary_state, lake.table.metadata.snapshots), state]
    epoch = next_epoch(one for one in seen if one is not None)
    return replace(state, epoch=epoch, batch_id=f"{kind}-{uuid.uuid4().hex}")


@dataclass(frozen=True, slots=True)
class Plan:
    """A recovery that is about to be written, or would be.

    Args:
        kind: The command.
        found: What is wrong or is to be changed, a line each.
        does: What will be done, a line each.
        state: To be written.
        contents_of: See `k2_sink.commit.Recovery`.
    """

    kind: str
    found: Sequence[str]
    does: Sequence[str]
    state: CommitState
    contents_of: SnapshotId | None = None


def carry_out(site: Site, lake: Lake, plan: Plan, asked: Asked) -> None:
    """Show a plan, ask, and commit it.

    Raises:
        SpecError: Nobody can be asked, and nobody said --yes.
        CatalogUnavailableError: The head is another one by now, or the catalog gave no clear answer.
    """
    if not asked.json_output:
        for line in (*(f"found  {line}" for line in plan.found), *(f"will   {line}" for line in plan.does)):
            output.console().print(line)
    written: SnapshotId | None = None
    if not asked.dry_run:
        if not asked.yes:
            _confirm(asked)
        by = f"{getpass.getuser()}@{socket.gethostname()}"
        account = {RECOVERY_KEY: plan.kind, REASON_KEY: asked.reason, BY_KEY: by}
        written = recover(lake.table, Recovery(plan.state, site.uid, account, plan.contents_of))
    if asked.json_output:
        document = {"found": list(plan.found), "does": list(plan.does), "epoch": plan.state.epoch}
        output.print_json({"command": plan.kind, **document, "dry_run": asked.dry_run, "snapshot_id": written})
    elif written is not None:
        output.console().print(f"done   snapshot {written}, epoch {plan.state.epoch}; sinks go on from here: `k2 up`")


def _confirm(asked: Asked) -> None:
    if asked.json_output or not sys.stdin.isatty():
        raise SpecError("--yes", "nothing, and no terminal to ask on", "--yes, or --dry-run to see what would be done")
    if not typer.confirm("Write this?", default=False):
        raise typer.Exit(ExitCode.NOT_WELL)


def positions_shown(state: CommitState, name: TopicName) -> str:
    """Return where a topic stands, for people."""
    partitions = state.topics[name].partitions
    total = sum(one.next - one.origin for one in partitions.values())
    return f"{name}: {len(partitions)} partitions, {total:,} offsets taken in"


def count_rows(rows: Rows) -> int:
    """Return all rows."""
    return sum(held.rows for held in rows.held.values())
