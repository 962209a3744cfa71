"""The warehouse: how its files are reached, and what is wrong in words when they are not.

Called by `k2_core.tables` and by whoever reads or writes a table's files. Pure; the files themselves are pyiceberg's
and pyarrow's. Messages name endpoint and bucket, never a key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from k2_core.config import ServiceSettings
from k2_core.errors import SpecError, StorageUnavailableError

S3_CONNECT_TIMEOUT_S: Final = 5
"""pyiceberg waits 60 s by default; a store that does not accept in 5 is away."""
S3_REQUEST_TIMEOUT_S: Final = 10
"""Without a byte. A request is tried three times by the library: 45 s in all, below `k2_core.health.LIVE_WITHIN_S`."""
ENDPOINT: Final = "s3.endpoint"

_S3: Final = ("s3://", "s3a://")
_AWS_ERROR: Final = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))? during \w+ operation: (.*)", re.DOTALL)
_REQUEST_ID: Final = re.compile(r"\s*\(Request ID:.*", re.DOTALL)
_EXCEPTION_NAME: Final = re.compile(r"Unable to parse ExceptionName: (\w+) Message: ")
_KEY_REFUSED: Final = frozenset(
    {"ACCESS_DENIED", "SIGNATURE_DOES_NOT_MATCH", "INVALID_ACCESS_KEY_ID", "INVALID_CLIENT_TOKEN_ID"}
    | {"UNRECOGNIZED_CLIENT", "MISSING_AUTHENTICATION_TOKEN", "InvalidAccessKeyId", "XAdminUserNotFound"}
)
_REGION_REFUSED: Final = frozenset({"AuthorizationHeaderMalformed", "HTTP 301", "HTTP 400"})
"""What a server of another region says; without a body where the question was about a file's existence."""
_LONGEST: Final = 200


def is_s3(url: str) -> bool:
    """Return whether a warehouse or a file is in object storage."""
    return url.startswith(_S3)


def file_properties(settings: ServiceSettings) -> dict[str, str]:
    """Return pyiceberg's properties for reaching the warehouse's files.

    Addresses are of the form ENDPOINT/BUCKET/KEY where an endpoint is named: servers other than AWS rarely have a name
    for each bucket.

    Raises:
        SpecError: One of two keys is missing, or the endpoint is no URL.
    """
    properties = {"py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"}
    if settings.warehouse is None or not is_s3(settings.warehouse):
        return properties
    return properties | s3_properties(settings)


def s3_properties(settings: ServiceSettings) -> dict[str, str]:
    """Return pyiceberg's properties for reaching objects, be the warehouse there or not.

    Raises:
        SpecError: As `file_properties`.
    """
    properties = {
        "s3.region": settings.s3_region,
        "s3.connect-timeout": str(S3_CONNECT_TIMEOUT_S),
        "s3.request-timeout": str(S3_REQUEST_TIMEOUT_S),
    }
    if (endpoint := settings.s3_endpoint) is not None:
        if not endpoint.startswith(("http://", "https://")):
            raise SpecError("K2_S3_ENDPOINT", repr(endpoint), "a URL such as http://minio:9000")
        properties |= {ENDPOINT: endpoint, "s3.force-virtual-addressing": "false"}
    return properties | _keys(settings)


def _keys(settings: ServiceSettings) -> dict[str, str]:
    access, secret = settings.s3_access_key, settings.s3_secret_key
    if access is None and secret is None:
        return {}
    if access is None or secret is None:
        missing = "K2_S3_ACCESS_KEY" if access is None else "K2_S3_SECRET_KEY"
        raise SpecError(missing, "none", "both keys, or none of them for the identity that AWS gives to the process")
    return {"s3.access-key-id": access.get_secret_value(), "s3.secret-access-key": secret.get_secret_value()}


def storage_fault(
    error: OSError, where: str, properties: Mapping[str, str], what: str = "warehouse"
) -> StorageUnavailableError:
    """Return what went wrong with a file as one line.

    Args:
        error: As the file system raised it.
        where: The file's or the warehouse's URL.
        properties: Of the FileIO.
        what: What the file is or belongs to, for people.
    """
    if not is_s3(where):
        return StorageUnavailableError(f"{what}: found {error} at {where}, expected room to write")
    bucket = where.partition("://")[2].partition("/")[0]
    store = f"{properties.get(ENDPOINT) or 'AWS'}/{bucket}"
    if isinstance(error, FileNotFoundError):
        return StorageUnavailableError(
            f"{what}: found no {where}, expected bucket and file to be there and the key to be known to {store}"
        )
    code, text = _aws_error(str(error))
    if code == "NETWORK_CONNECTION":
        found, expected = f"no answer ({text})", "an S3 endpoint"
    elif code in _KEY_REFUSED:
        found, expected = f"the key refused ({code})", "one that may read and write there"
    elif code == "NO_SUCH_BUCKET":
        found, expected = "no such bucket", "it to exist"
    elif code in _REGION_REFUSED:
        found, expected = f"the request refused ({code})", f"its region to be {properties.get('s3.region')!r}"
    else:
        found, expected = f"{code}: {text}" if code else text, "an answer"
    return StorageUnavailableError(f"{what}: found {found} at {store}, expected {expected}")


def _aws_error(text: str) -> tuple[str, str]:
    """Return the code and the text in a message of pyarrow's S3 file system; no code in any other."""
    match = _AWS_ERROR.search(text)
    code, detail = (match[1], match[3]) if match else ("", text)
    if named := _EXCEPTION_NAME.match(detail):
        code, detail = named[1], detail[named.end() :]
    if match and code == "UNKNOWN" and match[2]:
        code = f"HTTP {match[2]}"
    detail = " ".join(_REQUEST_ID.sub("", detail).split())
    return code, detail[:_LONGEST]
