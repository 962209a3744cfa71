"""The process `python -m k2_sink.removal`: drops a pipeline's tables with all their files, as a cluster's job runs it.

Nothing writes to the tables any more: the operator starts it once the sink is gone. It may be killed at any time and
run again, and goes on. For that a table is left for last what says whose it is, and where its files are: first go its
files but the one that the catalog names, then its name, then that file; and a note in the warehouse has the names of
those files until the last is gone. What is not the pipeline's is left, and told.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from typing import Final

from pyarrow.fs import FileSystem
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NamespaceNotEmptyError, NoSuchNamespaceError, NoSuchTableError
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.table import Table

from k2_core.config import ServiceSettings, read_settings
from k2_core.errors import K2Error, StateError
from k2_core.exits import ExitStatus, last_word, say
from k2_core.listing import folders, listed, located
from k2_core.logs import configure
from k2_core.raw_files import FOLDER
from k2_core.spec import load_pipeline
from k2_core.state import PIPELINE_KEY
from k2_core.tables import answering, open_catalog

SERVICE: Final = "k2-removal"
AT_ONCE: Final = 16
"""Files that are being deleted; each is one request of some milliseconds."""

_log = logging.getLogger("k2_sink.removal")


@dataclass(frozen=True, slots=True)
class Last:
    """What is still to be deleted of a table that the catalog may have forgotten.

    Args:
        location: Its folder.
        metadata: The file in it that the catalog named.
    """

    location: str
    metadata: str


@dataclass(frozen=True, slots=True)
class Removed:
    """What one run did.

    Args:
        tables: That were dropped.
        files: That were deleted.
        left: Tables of the namespace that are not the pipeline's, with their owners.
    """

    tables: tuple[str, ...]
    files: int
    left: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        """Say it in one line."""
        text = f"{len(self.tables)} tables dropped and {self.files} files deleted"
        others = ", ".join(f"{name} (of {owner})" for name, owner in self.left)
        return f"{text}; left what is not this pipeline's: {others}" if others else text


class Removal:
    """The removal of one pipeline's tables.

    Every method raises RetryableError when catalog or warehouse is away.

    Args:
        catalog: Where they are.
        warehouse: Its URL.
        namespace: Of all of them.
        pipeline_uid: Whose tables go.
    """

    def __init__(self, catalog: Catalog, warehouse: str, namespace: str, pipeline_uid: str) -> None:
        self._catalog = catalog
        self._warehouse = warehouse.rstrip("/")
        self._namespace = namespace
        self._uid = pipeline_uid
        self._io = load_file_io(dict(catalog.properties), self._warehouse)
        self._note = f"{self._warehouse}/{SERVICE}-{pipeline_uid}.json"

    def run(self) -> Removed:
        """Remove everything that is there.

        Raises:
            StateError: A table that is to stay lies in the folder of one that is to go.
        """
        with answering(self._warehouse, self._catalog.properties):
            return self._run()

    def _run(self) -> Removed:
        tables = self._tables()
        own = [table for table in tables if table.properties.get(PIPELINE_KEY) == self._uid]
        others = [table for table in tables if table not in own]
        for table in own:
            self._require_apart(table, others)
        last = {*self._read_note(), *(Last(table.location(), table.metadata_location) for table in own)}
        if own:
            self._write_note(last)
        files = sum(self._drop(table) for table in own)
        for one in last:
            files += self._delete(one.metadata)
            for folder in (one.location, one.location.rstrip("/") + FOLDER):
                _drop_folder(self._io, folder)
        if last and self._drop_namespace():  # an empty one that is nobody's yet is not the pipeline's either
            for folder in {one.location.rstrip("/").rpartition("/")[0] for one in last}:
                if folder != self._warehouse:
                    _drop_folder(self._io, folder)
        self._delete(self._note)
        left = tuple(sorted((_shown(table), table.properties.get(PIPELINE_KEY, "nobody")) for table in others))
        return Removed(tuple(_shown(table) for table in own), files, left)

    def _tables(self) -> list[Table]:
        try:
            names = self._catalog.list_tables((self._namespace,))
        except NoSuchNamespaceError:
            return []
        found = []
        for name in names:
            with suppress(NoSuchTableError):  # gone meanwhile
                found.append(self._catalog.load_table(name))
        return found

    def _require_apart(self, table: Table, others: Iterable[Table]) -> None:
        folder = table.location().rstrip("/") + "/"
        if f"{self._warehouse}/".startswith(folder):
            raise StateError(
                f"table {_shown(table)}: found its folder to be {folder}, expected one below the warehouse"
            )
        for other in others:
            if f"{other.location().rstrip('/')}/".startswith(folder):
                raise StateError(
                    f"table {_shown(table)}: found {_shown(other)}, which is to stay, in its folder {folder}, "
                    "expected nothing of others there; move that, or set spec.deletionPolicy to Retain"
                )

    def _drop(self, table: Table) -> int:
        """Drop a table and all its files but the one that the catalog names; return how many."""
        folder, named = table.location().rstrip("/"), located(table.io, table.metadata_location)[1]
        found = [*listed(table.io, folder, below=True), *listed(table.io, folder + FOLDER, below=True)]
        files, _ = located(table.io, folder)
        deleted = _deleted(files, [one.path for one in found if one.path != named])
        for one in (folder, folder + FOLDER):  # now, as nobody else makes a table there while it has its name
            _drop_folder(table.io, one, named)
        with suppress(NoSuchTableError):
            self._catalog.drop_table(table.name())
        _log.info("dropped", extra={"table": _shown(table), "files": deleted})
        return deleted

    def _drop_namespace(self) -> bool:
        """Drop the namespace if nothing is in it; return whether there is none any more."""
        try:
            self._catalog.drop_namespace((self._namespace,))
        except NamespaceNotEmptyError:
            return False
        except NoSuchNamespaceError:
            return True
        return True

    def _delete(self, file: str) -> int:
        files, path = located(self._io, file)
        return _deleted(files, [path])

    # The note.

    def _read_note(self) -> list[Last]:
        try:
            with self._io.new_input(self._note).open() as stream:
                return [Last(**one) for one in json.loads(stream.read())]
        except (FileNotFoundError, ValueError):  # one that was cut short was written before anything was dropped
            return []

    def _write_note(self, last: Iterable[Last]) -> None:
        text = json.dumps([asdict(one) for one in last])
        with self._io.new_output(self._note).create(overwrite=True) as stream:
            stream.write(text.encode())


def _deleted(files: FileSystem, paths: Sequence[str]) -> int:
    """Delete files; return how many of them were there."""

    def delete(path: str) -> int:
        try:
            files.delete_file(path)
        except FileNotFoundError:
            return 0
        return 1

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return sum(threads.map(delete, paths))


def _drop_folder(io: FileIO, folder: str, keep: str = "") -> None:
    """Drop what folders leave in object storage when their last file has gone; nothing, where there is another file.

    Args:
        io: Reaches it.
        folder: Its URL.
        keep: The path of a file whose folders stay.
    """
    if any(one.path != keep for one in listed(io, folder, below=True)):
        return
    files, root = located(io, folder)
    levels: defaultdict[int, list[str]] = defaultdict(list)
    for path in (root.rstrip("/"), *folders(io, folder)):
        if not keep.startswith(f"{path}/"):
            levels[path.count("/")].append(path)

    def drop(path: str) -> None:
        with suppress(FileNotFoundError):
            files.delete_dir(path)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        for depth in sorted(levels, reverse=True):  # some servers refuse a folder that has folders, be they empty
            list(threads.map(drop, levels[depth]))


def _shown(table: Table) -> str:
    return ".".join(table.name())


def main() -> int:
    """Remove the tables once; returns the exit code."""
    try:
        settings = read_settings(ServiceSettings)
        configure(SERVICE, settings.log_level)
        pipeline = load_pipeline(settings.pipeline_file)
        with closing(open_catalog(settings)) as catalog:
            uid = settings.pipeline_uid or pipeline.uid
            done = Removal(catalog, settings.warehouse or "", pipeline.spec.namespace, uid).run()
    except K2Error as error:
        return last_word(SERVICE, error)
    _log.info("done", extra={"tables": len(done.tables), "files": done.files, "left": dict(done.left)})
    say(str(done))
    return ExitStatus.DRAINED


if __name__ == "__main__":
    sys.exit(main())
