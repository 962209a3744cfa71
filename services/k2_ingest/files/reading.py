"""The bytes of a file, wherever it is, and the lines in them.

Owns what a file's digest is and where a line ends. Called by `service`; the only module of files that meets a disk or
object storage. It holds one block at a time, so a file may be larger than memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pyiceberg.io.pyarrow import PyArrowFileIO

from k2_core.errors import SpecError
from k2_core.storage import is_s3, storage_fault

BLOCK_BYTES: Final = 1024 * 1024
"""Some 27,000 lines: little memory, few calls, and the event loop comes round tens of times a second."""
LONGEST_LINE_BYTES: Final = 64 * 1024
"""A trade's line has 40. Any line must fit into Kafka as a dead letter, where a record's limit is 1,000,000 bytes."""
DIGEST_CHARACTERS: Final = 16
"""64 bits of SHA-256: they tell versions of a file apart, and travel with each of its rows."""


class SourceFile:
    """One file.

    Args:
        path: Of a local file, or an s3:// URL.
        properties: pyiceberg's, for object storage.
    """

    def __init__(self, path: str, properties: Mapping[str, str]) -> None:
        self.path = path
        self._properties = dict(properties)

    def blocks(self) -> Iterator[bytes]:
        """Yield the file's bytes in order.

        Raises:
            SpecError: There is no such file on this machine, or it cannot be read.
            StorageUnavailableError: Object storage does not give it.
        """
        try:
            with self._open() as stream:
                while block := stream.read(BLOCK_BYTES):
                    yield block
        except OSError as error:
            if is_s3(self.path):
                raise storage_fault(error, self.path, self._properties, "file") from error
            raise SpecError("spec.ingestion[].files[].path", f"{self.path} ({error})", "a readable file") from error

    def _open(self) -> Any:  # a stream of bytes; pyiceberg's and Python's have no common type
        if is_s3(self.path):
            return PyArrowFileIO(self._properties).new_input(self.path).open(seekable=False)
        return Path(self.path).open("rb")

    def digest(self) -> str:
        """Return the digest of all of it: which version of the file this is.

        Raises:
            K2Error: As `blocks`.
        """
        digest = Digest()
        for block in self.blocks():
            digest.update(block)
        return digest.text


class Digest:
    """The digest of bytes as they come."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def update(self, block: bytes) -> None:
        """Take a block."""
        self._digest.update(block)

    def through(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield blocks as they are, having taken each."""
        for block in blocks:
            self.update(block)
            yield block

    @property
    def text(self) -> str:
        """Of what was taken so far."""
        return self._digest.hexdigest()[:DIGEST_CHARACTERS]


def lines(blocks: Iterable[bytes], path: str) -> Iterator[list[bytes]]:
    """Yield the lines of each block without their ends, LF or CRLF; the last line may lack its end.

    Args:
        blocks: Of a file.
        path: Of the file, for messages.

    Raises:
        SpecError: A line is too long to be one.
    """
    row, rest = 1, b""
    for block in blocks:
        *whole, rest = (rest + block).replace(b"\r\n", b"\n").split(b"\n")
        _require_lines([*whole, rest], row, path)
        row += len(whole)
        if whole:
            yield whole
    if rest:
        yield [rest]


def _require_lines(found: list[bytes], first_row: int, path: str) -> None:
    if max(map(len, found)) > LONGEST_LINE_BYTES:
        row = first_row + next(at for at, line in enumerate(found) if len(line) > LONGEST_LINE_BYTES)
        found_text = f"{path} with more than {LONGEST_LINE_BYTES} bytes in row {row}"
        raise SpecError("spec.ingestion[].files[].path", found_text, "a file of lines")
