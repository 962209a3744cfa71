"""k2_cli.stack.artifacts."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from k2_cli.stack import artifacts
from k2_cli.stack.artifacts import Jar, cache_root, ensure_jars, read_lock
from k2_core.errors import SetupError
from support.maven import Repository

CONTENT = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "RETRY_WAIT_S", 0.0)


@pytest.fixture
def jars(maven: Repository) -> list[Jar]:
    return [maven.add(f"org.example:part{n}:1.{n}", CONTENT + bytes([n])) for n in range(8)]


def test_the_shipped_lock_names_kafka_and_its_log_writer_once_each() -> None:
    names = [jar.file_name for jar in read_lock()]
    assert "kafka_2.13-4.3.1.jar" in names
    assert "slf4j-simple-1.7.36.jar" in names
    assert len(set(names)) == len(names)


def test_a_damaged_lock_is_named_with_its_line(tmp_path: Path) -> None:
    lock = tmp_path / "kafka.lock"
    lock.write_text("# comment\norg.example:a:1 not-a-number abc\n")
    with pytest.raises(SetupError, match=r"kafka\.lock:2: found .*not-a-number"):
        read_lock(lock)


def test_jars_are_fetched_once_and_progress_is_told(jars: list[Jar], maven: Repository) -> None:
    lines: list[str] = []
    folder = ensure_jars(lines.append, jars=jars)
    assert sorted(path.name for path in folder.glob("*.jar")) == sorted(jar.file_name for jar in jars)
    assert all(jar.matches(folder / jar.file_name) for jar in jars)
    assert lines[0].startswith("fetching Kafka: 8 jars")
    assert len(lines) >= 5
    assert ensure_jars(lines.append, jars=jars) == folder
    assert maven.jar_requests() == 8


def test_nothing_but_the_cache_is_written(jars: list[Jar], tmp_path: Path) -> None:
    folder = ensure_jars(jars=jars)
    assert not (tmp_path / "home").exists()
    assert [path.name for path in folder.iterdir() if path.suffix != ".jar"] == [".lock"]


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_jar_is_fetched_again(damage: str, jars: list[Jar], maven: Repository) -> None:
    folder = ensure_jars(jars=jars)
    (folder / "start-1.aot").write_text("recorded from the old files")
    victim = folder / jars[3].file_name
    if damage == "gone":
        victim.unlink()
    else:
        victim.write_bytes(CONTENT[:-1] if damage == "cut" else bytes(jars[3].size_bytes))
    ensure_jars(jars=jars)
    assert jars[3].matches(victim)
    assert maven.jar_requests() == 9
    assert not (folder / "start-1.aot").exists()


def test_content_other_than_locked_is_refused(jars: list[Jar], maven: Repository) -> None:
    wrong = Jar(jars[0].coordinate, jars[0].size_bytes, "0" * 64)
    with pytest.raises(SetupError, match=r"org\.example:part0:1\.0 in 3 attempts: .*other content"):
        ensure_jars(jars=[wrong])
    assert maven.jar_requests() == 3
    assert not list(cache_root().rglob("*.jar"))


def test_a_broken_download_is_tried_again(jars: list[Jar], maven: Repository) -> None:
    path = "org/example/part0/1.0/part0-1.0.jar"
    maven.truncated.add(path)
    with pytest.raises(SetupError, match="in 3 attempts"):
        ensure_jars(jars=jars[:1])
    assert maven.requests[path] == 3
    maven.truncated.clear()
    assert jars[0].matches(ensure_jars(jars=jars[:1]) / jars[0].file_name)


def test_a_jar_that_no_repository_has_is_named(maven: Repository) -> None:
    missing = Jar("org.example:missing:1", 1, "0" * 64)
    with pytest.raises(SetupError, match=r"could not fetch org\.example:missing:1 .* not found"):
        ensure_jars(jars=[missing])


def test_an_unreachable_repository_is_one_error(jars: list[Jar], maven: Repository, tmp_path: Path) -> None:
    (tmp_path / "jgo.conf").write_text("[repositories]\ncentral = http://127.0.0.1:1\n")
    with pytest.raises(SetupError, match="is the Maven repository reachable"):
        ensure_jars(jars=jars)


def test_two_at_once_fetch_each_jar_once(jars: list[Jar], maven: Repository) -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = {each.result() for each in [pool.submit(ensure_jars, jars=jars) for _ in range(4)]}
    assert len(folders) == 1
    assert maven.jar_requests() == 8


def test_waiting_for_another_process_is_told(jars: list[Jar], maven: Repository) -> None:
    folder = ensure_jars(jars=jars)
    (folder / jars[0].file_name).unlink()
    holder = (
        "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.flock(f,fcntl.LOCK_EX); print('held',flush=True); input()"
    )
    command = [sys.executable, "-c", holder, str(folder / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        lines: list[str] = []

        def told(line: str) -> None:
            lines.append(line)
            if "waiting" in line:
                assert other.stdin is not None
                other.stdin.close()

        ensure_jars(told, jars=jars)
    assert "another process" in lines[0]


def test_leftovers_of_a_killed_download_are_removed(jars: list[Jar], maven: Repository) -> None:
    folder = ensure_jars(jars=jars)
    (folder / "fetch-dead").mkdir()
    (folder / jars[0].file_name).unlink()
    ensure_jars(jars=jars)
    assert not (folder / "fetch-dead").exists()


def test_a_cache_that_cannot_be_made_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("K2_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(SetupError, match=r"Not a directory; set K2_CACHE_DIR .* 45 MB"):
        ensure_jars()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({"K2_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a", id="own-first"),
        pytest.param({"K2_CACHE_DIR": "", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/k2", id="xdg"),
        pytest.param({"K2_CACHE_DIR": "", "XDG_CACHE_HOME": "b", "HOME": "/c"}, "/c/.cache/k2", id="relative-xdg"),
        pytest.param({"K2_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/k2", id="home"),
    ],
)
def test_cache_root(environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_root() == Path(expected)


def test_an_account_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("K2_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    with pytest.raises(SetupError, match="no home directory"):
        cache_root()
