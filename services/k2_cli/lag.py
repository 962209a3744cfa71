"""`k2 lag`: how far a pipeline is behind its log, by partition, by topic and in all, from Kafka and the table's state.

The distances are those that the controller decides by (`k2_core.controller.lag`), but that the table itself says where
it stands. Called by `main`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from k2_cli import output
from k2_cli.folder import DEFAULT_DIR
from k2_cli.kafka_site import kafka_site

if TYPE_CHECKING:
    from k2_core.controller.lag import Lag, PartitionLag
    from k2_core.types import TopicName

EXAMPLE: Final = "Example:  k2 lag --dir .k2 --partitions"
_FIGURES: Final = ("unread", "unread_age_s", "uncommitted", "uncommitted_age_s", "committed_age_s")
_HEADINGS: Final = ("unread", "age, s", "uncommitted", "age, s", "last commit, s ago")


def lag(
    directory: Annotated[Path, typer.Option("--dir", help="State folder of the pipeline.")] = DEFAULT_DIR,
    pipeline_file: Annotated[
        Path | None, typer.Option("--pipeline", help="A pipeline file, where K2_* say how to reach Kafka and catalog.")
    ] = None,
    *,
    partitions: Annotated[bool, typer.Option("--partitions", help="Each partition that has records.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Each partition, those without a record too.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object, each partition in it.")] = False,
) -> None:
    """Show unread and uncommitted records and the age of the oldest, by topic and in all.

    Unread is what no sink has read, uncommitted what the table has not passed; the age is that of the oldest such
    record, 0 where there is none. What levels put off is said beside it. What is not known is -, or null with --json,
    and never 0. Exit 4 when Kafka does not answer.
    """
    topics, found, owed = measure(directory, pipeline_file)
    whole = in_all(topics, found)
    if json_output:
        output.print_json(document(found, topics, whole) | {"owed": owed})
        return
    if partitions or every:
        _print_partitions([at for at in found if every or at.end > at.start])
    else:
        rows = [(topic, *_figures(one)) for topic, one in sorted(topics.items())]
        output.print_table(("topic", *_HEADINGS), rows)
    with_records = sum(at.end > at.start for at in found)
    output.console().print(f"{len(found)} partitions, {with_records} with records: {in_words(whole)}")
    if owed:
        output.console().print(f"beside that, levels have put off {owed:,} records: `k2 audit` names them")


def in_all(topics: Mapping[TopicName, Lag], found: Sequence[PartitionLag]) -> Lag:
    """Return a pipeline's lag; nothing is known of it while one of its topics does not exist."""
    from k2_core.controller.lag import UNKNOWN, total  # noqa: PLC0415  # with it comes what takes long to import

    return UNKNOWN if UNKNOWN in topics.values() else total(found)


def document(found: Iterable[PartitionLag], topics: Mapping[TopicName, Lag], whole: Lag) -> dict[str, Any]:
    """Return what `--json` prints: the pipeline's figures, those of its topics, those of their partitions."""
    return {
        **asdict(whole),
        "topics": [{"topic": topic, **asdict(one)} for topic, one in sorted(topics.items())],
        "partitions": [
            {
                "topic": one.at[0],
                "partition": one.at[1],
                "start": one.start,
                "end": one.end,
                "read": one.read,
                "next": one.committed,
                **{name: getattr(one, name) for name in _FIGURES},
            }
            for one in found
        ],
    }


def in_words(whole: Lag) -> str:
    """Return a pipeline's lag as one line."""
    unread, unread_s, uncommitted, uncommitted_s, committed_s = map(output.shown, _figures(whole))
    return (
        f"unread {unread}, the oldest {unread_s} s old; uncommitted {uncommitted}, the oldest {uncommitted_s} s old; "
        f"last commit {committed_s} s ago"
    )


def _print_partitions(shown: Sequence[PartitionLag]) -> None:
    columns = ("topic", "partition", "log start", "end", "read", "committed", *_HEADINGS)
    rows = [(*one.at, one.start, one.end, one.read, one.committed, *_figures(one)) for one in shown]
    output.print_table(columns, rows)


def _figures(one: Lag | PartitionLag) -> tuple[object, ...]:
    return tuple(getattr(one, name) for name in _FIGURES)


def measure(
    directory: Path, pipeline_file: Path | None = None
) -> tuple[Mapping[TopicName, Lag], Sequence[PartitionLag], int]:
    """Return the lag of each topic and each partition of a folder's pipeline, or of the one that variables tell of.

    Of a topic that does not exist nothing is known. The last is how many records levels have put off.

    Raises:
        SetupError: No pipeline has ever run on the folder.
        SpecError: The file is wrong.
        KafkaUnavailableError: Kafka does not run or does not answer.
        CatalogUnavailableError: The catalog does not answer.
    """
    pipeline, settings = kafka_site(directory, pipeline_file)
    # After the cheap refusals: these take a second to import.
    from k2_cli.lake import Lake  # noqa: PLC0415
    from k2_core.controller.lag import UNKNOWN, by_topic  # noqa: PLC0415
    from k2_core.controller.look import Looker  # noqa: PLC0415
    from k2_core.state import owed_records  # noqa: PLC0415
    from k2_core.tables import open_catalog  # noqa: PLC0415

    # The table first: a commit in between then makes a lag look longer, never shorter than it was.
    lake = Lake.open(open_catalog(settings), pipeline.spec.namespace)
    state = lake.state() if lake is not None else None
    topics = {} if state is None else state.topics
    stands = {
        (name, topic.id): {at: one.next for at, one in topic.partitions.items()} for name, topic in topics.items()
    }
    looker = Looker(settings, pipeline)
    try:
        found = looker.look(stands).partitions
    finally:
        looker.close()
    owed = 0 if state is None else owed_records(state.open_ledger)
    return dict.fromkeys(pipeline.trades_topics(), UNKNOWN) | by_topic(found), found, owed
