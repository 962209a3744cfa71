"""Archives of Maven repositories, from a repository on loopback."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from k2_core.errors import SetupError
from onenode import archives, tools
from onenode.catalog import Source, Tool
from support.maven import Repository, serve

SERVER = "org/example/server/1/server-1.tar.gz"


def archive_of(files: dict[str, str], links: dict[str, str]) -> bytes:
    """Return an archive of texts and of hard links to them, in this order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as content:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            member.mode = 0o755
            content.addfile(member, io.BytesIO(text.encode()))
        for name, target in links.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.LNKTYPE, target
            content.addfile(link)
    return buffer.getvalue()


CONTENT = archive_of(
    {
        "server-1/bin/launcher": "run",
        "server-1/plugin/other/shared.jar": "shared",
        "server-1/plugin/other/own": "other",
    },
    {"server-1/plugin/wanted/shared.jar": "server-1/plugin/other/shared.jar"},
)


def entry(content: bytes = CONTENT, room_gb: float = 0) -> Tool:
    digest = hashlib.sha256(content).hexdigest()
    return Tool(
        "server",
        Source.MAVEN,
        ("bin/launcher",),
        "org.example:server",
        "1",
        (digest,),
        keep=("bin/", "plugin/wanted/"),
        room_gb=room_gb,
    )


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """A repository that is the only one that the client knows, and a cache of the test's own."""
    with serve() as repository:
        config = tmp_path / "jgo.conf"
        config.write_text(f"[repositories]\ncentral = {repository.url}\n")
        monkeypatch.setenv("JGO_CONFIG_FILE", str(config))
        monkeypatch.setenv("K2_CACHE_DIR", str(tmp_path / "cache"))
        yield repository


def made(wanted: Tool, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tools, "read_catalog", lambda: {"server": wanted})
    return tools.tool("server", lambda _: None)


def test_what_is_kept_is_whole_and_nothing_else_stays(
    maven: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maven.files[SERVER] = CONTENT
    folder = made(entry(), monkeypatch).parents[1]
    assert folder == tmp_path / "cache" / "tools" / "server-1"
    found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert found == {"bin/launcher": "run", "plugin/wanted/shared.jar": "shared"}
    assert sorted(path.name for path in folder.parent.iterdir()) == ["server-1", "server-1.lock"]
    assert maven.requests[SERVER] == 1
    assert made(entry(), monkeypatch).exists()
    assert maven.requests[SERVER] == 1


def test_the_archive_goes_when_it_is_unpacked(tmp_path: Path) -> None:
    archive, target = tmp_path / "a.tar.gz", tmp_path / "target"
    archive.write_bytes(CONTENT)
    target.mkdir()
    archives.unpack(archive, ["bin/"], target)
    assert not archive.exists()
    assert [path.name for path in target.rglob("*")] == ["bin", "launcher"]


def test_another_content_is_refused(maven: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maven.files[SERVER] = archive_of({"server-1/bin/launcher": "evil"}, {})
    with pytest.raises(SetupError, match=r"org\.example:server:1: found SHA-256 \w{64}, expected \w{64}$"):
        made(entry(), monkeypatch)
    assert [path.name for path in (tmp_path / "cache" / "tools").iterdir()] == ["server-1.lock"]


def test_what_no_repository_has_is_said(maven: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SetupError, match=r"could not fetch org\.example:server:1"):
        made(entry(), monkeypatch)


def test_what_breaks_off_is_said(maven: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    maven.files[SERVER] = CONTENT
    maven.truncated.add(SERVER)
    with pytest.raises(SetupError, match=r"could not make server 1|found SHA-256"):
        made(entry(), monkeypatch)


def test_without_room_nothing_is_fetched(maven: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SetupError, match=r"server 1: found [\d.]+ GB free in .*, expected 1e\+09 GB"):
        made(entry(room_gb=1e9), monkeypatch)
    assert not maven.requests
