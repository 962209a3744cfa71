"""Which files lie in a folder of the warehouse, whether or not a table names them.

Called by `k2_core.raw_files` and by the maintenance of tables. It opens none of them.
"""

from __future__ import annotations

from pyarrow.fs import FileInfo, FileSelector, FileType
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
    if not isinstance(io, PyArrowFileIO):
        raise SetupError(f"warehouse: found {type(io).__name__}, expected PyArrowFileIO, which can list files")
    scheme, netloc, path = io.parse_location(folder, io.properties)
    try:
        found = io.fs_by_scheme(scheme, netloc).get_file_info(FileSelector(path, allow_not_found=True, recursive=below))
    except OSError as error:
        raise storage_fault(error, folder, io.properties) from error
    return [one for one in found if one.type is FileType.File]
