"""`k2 up`: a whole pipeline on this machine, from one file, until Ctrl-C.

Owns the order of things: folder, disk, source, Kafka, services, the watch over them, and the ordered stop. How a stack
is made of processes is `k2_cli.launch`'s, what `--once` does beyond is `k2_cli.replay`'s.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from k2_cli import output, pipelines, settling, source
from k2_cli.continuation import next_ids
from k2_cli.ending import KEPT, how_it_stands
from k2_cli.exits import ExitCode
from k2_cli.folder import DEFAULT_DIR, StateFolder
from k2_cli.hangs import Hangs
from k2_cli.interrupts import Interrupts
from k2_cli.launch import CONTROLLER, STAGE_INGEST, Exchange, LocalStack, needs_exchange
from k2_cli.live import LiveFigures, sinks_wanted
from k2_cli.looking import look
from k2_cli.recovery.options import with_directory
from k2_cli.scrape import Sample, Scraper
from k2_cli.sizes import DiskBudget
from k2_cli.stack import disk
from k2_cli.supervisor import Supervisor
from k2_cli.symbol_notices import SymbolNotices
from k2_cli.view import View, choose_view
from k2_core.errors import SetupError, SpecError, StateError
from k2_core.spec import inactive_settings
from k2_query.settings import DEVELOPMENT_KEY

if TYPE_CHECKING:
    from k2_cli.captured import Captured
    from k2_cli.loading import LoadAccount
    from k2_cli.replay import Account
    from k2_cli.verdict import Verdict
    from k2_core.spec import Pipeline

EXAMPLE: Final = "Example:  k2 up -f manifests/pipeline.yaml --max-disk 5GB"
TICK_S: Final = 0.2
FIGURES_EVERY_S: Final = 1.0
DISK_EVERY_S: Final = 5.0
READY_TIMEOUT_S: Final = 60.0
HEAD_START_S: Final = 8.0
"""Of ingest and sink before the query service: what all of them need most to start is the processor."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for; see the command's help."""

    file: Path | None
    directory: Path
    port: int | None
    max_disk: str | None
    captures: tuple[Path, ...]
    speed: float | None
    once: bool
    json_output: bool
    synthetic: bool
    rate: float

    def check(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            SpecError: Names the option.
        """
        if self.once and not self.captures and self.file is None:
            raise SpecError("--once", "no --capture", "captures to replay once, or a pipeline of files alone")
        if self.synthetic and self.captures:
            raise SpecError("--synthetic", "--capture too", "one of them")
        if self.speed is not None and not self.captures:
            raise SpecError("--speed", "no --capture", "files to replay")

    def check_with(self, pipeline: Pipeline) -> None:
        """Refuse what the pipeline contradicts.

        Raises:
            SpecError: Names the option.
        """
        listens = bool(pipelines.exchanges(pipeline))
        if self.once and not self.captures and listens:
            raise SpecError("--once", "no --capture", "captures to replay once, or a pipeline of files alone")
        if self.synthetic and not listens:
            raise SpecError("--synthetic", "a pipeline of files alone", "one with an exchange")

    @property
    def replay_speed(self) -> float:
        """Multiple of the captured pace; 0 is full speed, the default of `--once`."""
        if self.speed is not None:
            return self.speed
        return 0.0 if self.once else 1.0


def up(  # noqa: PLR0913, PLR0917  # an option each
    file: Annotated[Path | None, typer.Option("-f", "--file", help="The pipeline, a K2Pipeline in YAML.")] = None,
    directory: Annotated[
        Path, typer.Option("--dir", help="Folder of all state: Kafka, catalog, warehouse, logs.")
    ] = DEFAULT_DIR,
    port: Annotated[
        int | None, typer.Option(help="Port of the API, instead of the pipeline's.", min=1, max=65535)
    ] = None,
    max_disk: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Stop cleanly before the folder takes more, such as 5GB.")
    ] = None,
    capture: Annotated[
        list[Path] | None, typer.Option(metavar="FILE...", help="Replay raw captures (plain or .gz) as the source.")
    ] = None,
    more: Annotated[list[Path] | None, typer.Argument(metavar="", hidden=True)] = None,
    *,
    speed: Annotated[
        float | None, typer.Option(help="Multiple of the captured pace; 0 is full speed.", min=0, show_default="1")
    ] = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="Take in the captures or files once at full speed, commit, stop, and account."),
    ] = False,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Synthetic trades without asking the live exchange.")
    ] = False,
    rate: Annotated[float, typer.Option(help="Synthetic trades a second.", min=0)] = 500.0,
    json_output: Annotated[bool, typer.Option("--json", help="JSON on stdout, everything else on stderr.")] = False,
) -> None:
    """Run a pipeline on this machine: Kafka, ingest, sink, query API. Ctrl-C drains, commits and stops all of it."""
    if more and not capture:
        raise SpecError("arguments", repr(str(more[0])), "options only; captures come after --capture")
    captures = (*(capture or ()), *(more or ()))
    options = Options(file, directory, port, max_disk, captures, speed, once, json_output, synthetic, rate)
    options.check()
    raise typer.Exit(run(options))


def run(options: Options) -> ExitCode:
    """Run until done or stopped; returns the exit code.

    Raises:
        K2Error: It could not start, or could not go on.
    """
    captured = _read_captures(options.captures)
    pipeline = pipelines.resolve(options.file, captured.symbols if captured else ())
    options.check_with(pipeline)
    if inactive := inactive_settings(pipeline, laptop=True):
        output.say(f"without effect here: {', '.join(inactive)}")
    folder = StateFolder(options.directory)
    budget = DiskBudget.choose(options.max_disk, disk.used_bytes(folder.root), disk.free_bytes(folder.root))
    interrupts = Interrupts()
    with interrupts.installed(), ExitStack() as stack:
        folder.acquire()
        stack.callback(folder.release)
        pipelines.require_same(folder.pipeline_file, pipeline)
        pipelines.write(pipeline, folder.pipeline_file)
        session = Session(options, pipeline, folder, budget, interrupts)
        try:
            return session.run(captured)
        except KeyboardInterrupt:
            return ExitCode.INTERRUPTED
        except StateError as error:
            raise StateError(with_directory(str(error), options.directory)) from error


def _read_captures(files: tuple[Path, ...]) -> Captured | None:
    if not files:
        return None
    from k2_cli.captured import read_captures  # noqa: PLC0415  # imports pyarrow, which live pipelines need not wait for

    return read_captures(files)


class Session:
    """One run of `k2 up`.

    Args:
        options: What was asked for.
        pipeline: What runs.
        folder: Owned by this process.
        budget: Of disk.
        interrupts: Installed.
    """

    def __init__(
        self, options: Options, pipeline: Pipeline, folder: StateFolder, budget: DiskBudget, interrupts: Interrupts
    ) -> None:
        self._options = options
        self._pipeline = pipeline
        self._folder = folder
        self._budget = budget
        self._interrupts = interrupts
        self._disk_at = 0.0
        self._owed = 0
        self.supervisor = Supervisor(output.say)
        # Nobody is told the API's address in a replay, so it must not fail because the usual port is taken.
        port = 0 if options.once and options.port is None else options.port
        self.stack = LocalStack(pipeline, folder, self.supervisor, port, output.say)
        self._hangs = Hangs(self.supervisor, self.stack.metrics_urls, output.say)
        self._notices = SymbolNotices(self.stack.metrics_urls, output.say)
        self.choice = source.Choice(source.Kind.LIVE, "")

    def run(self, captured: Captured | None) -> ExitCode:
        """Start, run and stop; returns the exit code."""
        try:
            result = self._once(captured) if self._options.once else None
            if result is None:
                self.start()
                self._watch()
        except BaseException:
            self._stop()
            raise
        clean = self._stop(settle=result is None)
        if result is not None:
            clean &= self._tell(*result)
        elif clean:
            output.say(how_it_stands(self._folder, self._owed))
        return ExitCode.OK if clean else ExitCode.NOT_WELL

    def _once(self, captured: Captured | None) -> tuple[Account | LoadAccount, Verdict | LoadAccount]:
        """Take in what there is once; returns the account, and what judges it."""
        if captured is not None:
            return self._replay(captured)
        from k2_cli.loading import Load  # noqa: PLC0415  # imports pyiceberg

        self.choice = source.FILES_ALONE
        account = Load(self.stack, self.supervisor, self.check, output.say).load(self.choice)
        return account, account

    def _replay(self, captured: Captured) -> tuple[Account, Verdict]:
        from k2_cli.replay import Replay  # noqa: PLC0415  # imports pyiceberg and DuckDB

        asked = source.Asked(captures=True)
        self.choice = source.decided(asked, self._folder.trades_kind(), str(self._folder.root)) or self.choice
        self._folder.mark_trades(self.choice.kind)
        exchange = Exchange(self._options.captures, self._options.replay_speed, close_at_end=True)
        return Replay(self.stack, self.supervisor, self.check, output.say).run(captured, exchange, self.choice)

    def _tell(self, account: Account | LoadAccount, verdict: Verdict | LoadAccount) -> bool:
        """Print what became of what went in; returns whether it is what came out, each once."""
        document: dict[str, Any] = dict(account.document())
        if self._options.json_output:
            output.print_json(document)
        else:
            rows = document.get("files", [document])
            output.print_table(list(rows[0]), [list(row.values()) for row in rows])
        for line in verdict.complaints():
            output.say(line)
        return verdict.exact

    def start(self) -> None:
        """Start everything, as much at once as dependencies allow."""
        asked = source.Asked(captures=bool(self._options.captures), synthetic=self._options.synthetic)
        exchanges = pipelines.exchanges(self._pipeline)
        looking = look(asked, self._folder.trades_kind(), str(self._folder.root), exchanges)
        self.stack.start_kafka()
        self.stack.start_sinks()
        self.choice = looking.result()
        held = self._folder.trades_kind()
        if self.choice is not source.FILES_ALONE:
            self._folder.mark_trades(self.choice.kind)
        address = self.stack.choose_exchange() if needs_exchange(self.choice) else None
        # Importing itself takes the ingest longer than the exchange needs to listen.
        self.stack.start_ingest(address)
        if address is not None:
            self.stack.start_exchange(self._exchange(held))
        servers = [one.stream_url for one in exchanges]
        output.say(f"source: {source.told(self.choice, servers, len(self._options.captures))}")
        # Last, as rows are committed without it: two processors have enough to start.
        self._let_rows_flow()
        self.stack.start_query()
        self.stack.start_controller()
        self.stack.write_run(self.choice)

    def _let_rows_flow(self) -> None:
        """Wait a little, until ingests and sinks are at work."""
        scraper, deadline = Scraper(), time.monotonic() + HEAD_START_S
        urls = list(self.stack.metrics_urls.values())
        while time.monotonic() < deadline and any(scraper.ready(url) is not None for url in urls):
            self.check()
            time.sleep(TICK_S)
        scraper.close()

    def _exchange(self, held: str | None) -> Exchange:
        options = self._options
        first_ids = {}
        if self.choice.kind is source.Kind.SYNTHETIC and held is not None:
            first_ids = next_ids(self.stack.settings, self._pipeline)
        return Exchange(options.captures, options.replay_speed, options.rate, first_ids)

    def _watch(self) -> None:
        """Show figures until somebody asks to stop, the disk is nearly full, or a process cannot be kept up."""
        scraper, figures = Scraper(), LiveFigures()
        terminal = sys.stdout.isatty()
        announced, next_s, remind_s = False, 0.0, time.monotonic() + READY_TIMEOUT_S
        with self._interrupts.patient(), choose_view(json_lines=self._options.json_output, terminal=terminal) as view:
            while not self._interrupts.asked.wait(TICK_S):
                if self.check():
                    self.stack.write_run(self.choice)
                if (now := time.monotonic()) < next_s:
                    continue
                next_s = now + FIGURES_EVERY_S
                self._show(view, scraper, figures)
                if not announced and scraper.healthy(self.stack.api_url) is None:
                    announced = True
                    self._announce()
                if not announced and now >= remind_s:
                    remind_s = now + READY_TIMEOUT_S
                    output.say(f"the query service does not answer yet; see {self._folder.logs / 'query.log'}")
        scraper.close()

    def _show(self, view: View, scraper: Scraper, figures: LiveFigures) -> None:
        samples = {name: scraper.read(url) for name, url in self.stack.metrics_urls.items()}
        wanted = sinks_wanted(samples.get(CONTROLLER))
        if wanted is not None and self.stack.scale_sinks(wanted):
            self.stack.write_run(self.choice)
        self._notices.look(samples, scraper)
        view.show(figures.update(samples, time.monotonic(), time.time()), time.monotonic())

    def check(self) -> bool:
        """Look after processes and disk; returns whether a process was started again.

        Raises:
            SetupError: A process cannot be kept up, or the disk is nearly full.
        """
        if time.monotonic() - self._disk_at >= DISK_EVERY_S:
            self._disk_at = time.monotonic()
            reason = self._budget.exceeded(disk.used_bytes(self._folder.root), disk.free_bytes(self._folder.root))
            if reason is not None:
                raise SetupError(f"disk: {reason}; stopped cleanly, everything received is kept")
        self._hangs.check()
        return self.supervisor.check()

    def _announce(self) -> None:
        url = self.stack.api_url
        symbol = self._pipeline.spec.ingestion[0].symbol_names[0]
        # Trades of files are seldom of the last minutes.
        route = "trades" if self._pipeline.spec.ingestion[0].reads_files else "trades/recent"
        query = f"curl -s -H 'X-API-Key: {DEVELOPMENT_KEY}' '{url}/v1/{route}?symbol={symbol}&limit=5'"
        if self._options.json_output:
            output.print_json({"api": url, "query": query, "source": self.choice.kind, "reason": self.choice.reason})
            return
        sys.stdout.write(f"API    {url}  (documentation: {url}/docs)\nquery  {query}\nstate  {self._folder.root}\n")
        sys.stdout.flush()

    def _stop(self, *, settle: bool = False) -> bool:
        """Stop everything in order; returns whether every process ended well. Another interrupt kills.

        Args:
            settle: Whether to wait for what levels put off.

        Raises:
            KeyboardInterrupt: It was killed.
        """
        try:
            statuses = self.supervisor.stop(STAGE_INGEST)
            if settle:
                self._owed = self._settle()
            statuses |= self.supervisor.stop()
        except KeyboardInterrupt:
            self.supervisor.kill()
            raise
        self._hangs.close()
        bad = {name: status for name, status in statuses.items() if name not in _ANY_END and status not in _WELL}
        for name, status in bad.items():
            output.say(f"{name} ended with {status} instead of 0; {KEPT}")
        return not bad

    def _settle(self) -> int:
        scraper = Scraper()

        def look_at_sinks() -> dict[str, Sample | None]:
            return {name: scraper.read(url) for name, url in self.stack.running_sinks().items()}

        left = settling.settle(look_at_sinks, output.say)
        scraper.close()
        return left


_ANY_END: Final = frozenset({"kafka", "exchange"})
"""A JVM says 143 after SIGTERM; what an exchange says does not matter."""
_WELL: Final = frozenset({0, None})
