"""k2_cli.stack.start_cache; the recording itself is real in test_kafka."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from k2_cli.stack.java import JavaRuntime
from k2_cli.stack.lock import FolderLock
from k2_cli.stack.start_cache import ensure_start_cache, record_option
from k2_core.errors import SetupError


@dataclass
class Recorder:
    """Stands for the broker run that writes the archive."""

    error: Exception | None = None
    targets: list[Path] = field(default_factory=list)

    def __call__(self, archive: Path) -> None:
        self.targets.append(archive)
        archive.write_text("half")
        if self.error:
            raise self.error


def ensure(
    jars: Path, record: Recorder, *, version: str = "25.0.2", options: tuple[str, ...] = ("-Xmx1m",)
) -> list[str]:
    return ensure_start_cache(JavaRuntime(Path("java"), version), jars, options, record, print)


def test_one_recording_serves_later_starts_of_any_heap(tmp_path: Path) -> None:
    record = Recorder()
    used = ensure(tmp_path, record)
    assert used == ensure(tmp_path, record, options=("-Xmx2m",))
    assert len(record.targets) == 1
    assert used[0].startswith(f"-XX:AOTCache={tmp_path}/start-")
    assert not record.targets[0].exists()


@pytest.mark.parametrize(
    ("version", "options"), [("25.0.3", ()), ("25.0.2", ("-XX:+UseG1GC",))], ids=["other-java", "other-options"]
)
def test_another_java_or_other_options_have_their_own(tmp_path: Path, version: str, options: tuple[str, ...]) -> None:
    record = Recorder()
    assert ensure(tmp_path, record) != ensure(tmp_path, record, version=version, options=options)
    assert len(record.targets) == 2


def test_older_java_runs_without(tmp_path: Path) -> None:
    record = Recorder()
    assert ensure(tmp_path, record, version="24.0.1") == []
    assert not record.targets


@pytest.mark.parametrize("error", [SetupError("it died"), OSError(28, "No space left")], ids=["died", "disk-full"])
def test_a_failure_is_told_once_and_remembered(
    tmp_path: Path, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    record = Recorder(error)
    assert ensure(tmp_path, record) == []
    assert ensure(tmp_path, record) == []
    assert len(record.targets) == 1
    assert capsys.readouterr().out.count("the recording failed") == 1
    (failed,) = tmp_path.glob("*.failed")
    assert failed.read_text() == f"{error}\n"
    assert not list(tmp_path.glob("*.recording"))


def test_while_another_process_records_this_one_goes_on(tmp_path: Path) -> None:
    record = Recorder()
    archive = Path(ensure(tmp_path, record)[0].removeprefix("-XX:AOTCache="))
    archive.unlink()
    other = FolderLock(archive.with_suffix(".lock"), "the recording")
    other.acquire()
    assert ensure(tmp_path, record) == []
    assert len(record.targets) == 1
    other.release()


def test_the_option_that_records() -> None:
    assert record_option(Path("/x.aot")) == "-XX:AOTCacheOutput=/x.aot"
