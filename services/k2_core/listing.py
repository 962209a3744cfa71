"""Which files lie in a folder of the warehouse, whether or not a table names them.

Called by `k2_core.raw_files`, by the maintenance of tables and by their removal. It opens none of them.
"""

from __future__ import annotations

from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO

from k2_core.errors import SetupError
from k2_core.storage import storage_fault


def listed(io: FileIO, folder: str, *, below: bool = False) -> list[FileInfo]:
    """Return the files of a folder; none, if there is no such folder.

    Args:
        io: Reaches the warehouse.
        folder: Its URL.
        below: Whether those of its folders are meant, too.

    Raises:
        SetupError: Files are reached by something that cannot list them.
        StorageUnavailableError: The warehouse is away.
    """
    return [one for one in _found(io, folder, below=below) if one.type is FileType.File]


def folders(io: FileIO, folder: str) -> list[str]:
    """Return the paths of all folders below one, with files in them or without.

    Raises:
        SetupError: Files are reached by something that cannot list them.
        StorageUnavailableError: The warehouse is away.
    """
    return [one.path for one in _found(io, folder, below=True) if one.type is FileType.Directory]


def _found(io: FileIO, folder: str, *, below: bool) -> list[FileInfo]:
    files, path = located(io, folder)
    try:
        found: list[FileInfo] = files.get_file_info(FileSelector(path, allow_not_found=True, recursive=below))
    except OSError as error:
        raise storage_fault(error, folder, io.properties) from error
    return found


def located(io: FileIO, url: str) -> tuple[FileSystem, str]:
    """Return the file system that a file or folder is on, and its path there.

    Raises:
        SetupError: Files are reached by something that cannot list them.
    """
    if not isinstance(io, PyArrowFileIO):
        raise SetupError(f"warehouse: found {type(io).__name__}, expected PyArrowFileIO, which can list files")
    scheme, netloc, path = io.parse_location(url, io.properties)
    return io.fs_by_scheme(scheme, netloc), path
