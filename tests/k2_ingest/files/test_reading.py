"""Files on disk and in a real object store, their digests and their lines."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from k2_core.config import ServiceSettings
from k2_core.errors import SpecError, StorageUnavailableError
from k2_core.storage import s3_properties
from k2_ingest.files import reading
from k2_ingest.files.reading import Digest, SourceFile, lines
from support.s3 import ACCESS_KEY, SIGNING_KEY, LocalS3

CONTENT = b"a\r\nb\r\n" * 400_000  # more than two blocks


def properties(s3: LocalS3, secret: str = SIGNING_KEY) -> dict[str, str]:
    settings = ServiceSettings(
        s3_endpoint=s3.endpoint, s3_access_key=SecretStr(ACCESS_KEY), s3_secret_key=SecretStr(secret)
    )
    return s3_properties(settings)


def test_a_file_on_disk(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(CONTENT)
    file = SourceFile(str(tmp_path / "a.csv"), {})
    assert b"".join(file.blocks()) == CONTENT
    assert len(list(file.blocks())) == 3
    assert file.digest() == hashlib.sha256(CONTENT).hexdigest()[:16]


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_file_that_is_none_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match=rf"files\[\]\.path: found {tmp_path}.*expected a readable file"):
        SourceFile(str(tmp_path / name), {}).digest()


def test_an_object(s3: LocalS3) -> None:
    bucket = s3.bucket()
    (s3.directory / "buckets" / bucket / "ticks").mkdir()
    (s3.directory / "buckets" / bucket / "ticks/a.csv").write_bytes(CONTENT)
    file = SourceFile(f"s3://{bucket}/ticks/a.csv", properties(s3))
    assert b"".join(file.blocks()) == CONTENT
    assert file.digest() == hashlib.sha256(CONTENT).hexdigest()[:16]


def test_an_object_that_cannot_be_had_is_told_in_one_line(s3: LocalS3) -> None:
    bucket = s3.bucket()
    with pytest.raises(StorageUnavailableError, match=f"^file: found no s3://{bucket}/a.csv, expected bucket and file"):
        SourceFile(f"s3://{bucket}/a.csv", properties(s3)).digest()
    with pytest.raises(StorageUnavailableError, match=r"^file: found the key refused"):
        SourceFile(f"s3://{bucket}/a.csv", properties(s3, "another")).digest()


def test_a_digest_of_what_passes() -> None:
    digest = Digest()
    assert list(digest.through([b"a", b"b"])) == [b"a", b"b"]
    assert digest.text == hashlib.sha256(b"ab").hexdigest()[:16]


@given(st.lists(st.binary(max_size=6).filter(lambda line: not set(line) & set(b"\r\n"))), st.integers(1, 7))
def test_lines_are_the_same_wherever_blocks_are_cut(expected: list[bytes], size: int) -> None:
    text = b"".join(line + (b"\r\n" if at % 3 else b"\n") for at, line in enumerate(expected))
    blocks = [text[at : at + size] for at in range(0, len(text), size)]
    assert [line for portion in lines(blocks, "a.csv") for line in portion] == expected


def test_the_last_line_may_lack_its_end() -> None:
    assert list(lines([b"a\nb", b"c"], "a.csv")) == [[b"a"], [b"bc"]]


@pytest.mark.parametrize("text", [b"a\n" + b"x" * 20 + b"\nb\n", b"a\n" + b"x" * 20])
def test_what_has_no_lines_is_refused(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LONGEST_LINE_BYTES", 10)
    with pytest.raises(SpecError, match=r"found a\.csv with more than 10 bytes in row 2, expected a file of lines"):
        list(lines([text], "a.csv"))
