"""Every error that K2 raises on purpose, in one tree.

    K2Error
    ├── RetryableError            the same call may succeed later
    │   ├── KafkaUnavailableError     no broker answered, or a produce was not acknowledged
    │   ├── CatalogUnavailableError   the Iceberg catalog is locked, gone or slow
    │   ├── StorageUnavailableError   the warehouse cannot be written or read now (disk full included)
    │   ├── EngineUnavailableError    Trino does not answer, is starting, or gave a query up for no fault of its own
    │   ├── VenueUnavailableError     the exchange refused, closed or stayed silent
    │   └── CircuitOpenError          a breaker stops calls until its cool-down is over
    └── PermanentError            the same call will fail again until somebody changes something
        ├── SpecError                 a pipeline file or a setting is wrong
        ├── RecordError               one message cannot become a record; its bytes go to the dead letters
        ├── SchemaError               two schemas that must agree do not
        ├── StateError                the table's commit state forbids going on; the message names the way out
        │   └── StateFormatError          a newer K2 wrote it: nothing is wrong with the table
        ├── RawFileError              a raw file is missing or damaged; what is owed stays in the ledger
        ├── EngineError               Trino answers and refuses: credentials, rights, a table that it does not see
        ├── QueryError                a request asks for something that cannot be answered as asked
        └── SetupError                this machine lacks something: a port, a download, disk space

They know nothing of HTTP, Kopf or exit codes: the edges translate (`k2_query.app`, `k2_cli.main`).
A message holds the value found and the value expected.
"""

from __future__ import annotations


class K2Error(Exception):
    """Root of every error that K2 raises on purpose."""


class RetryableError(K2Error):
    """The same call may succeed later: retry with backoff, lose nothing meanwhile."""


class PermanentError(K2Error):
    """The same call fails again until somebody changes something."""


class KafkaUnavailableError(RetryableError):
    """No broker answered in time, or a produce was not acknowledged."""


class CatalogUnavailableError(RetryableError):
    """The Iceberg catalog is locked, unreachable or slower than its budget."""


class StorageUnavailableError(RetryableError):
    """The warehouse cannot be written or read now; a full disk counts."""


class EngineUnavailableError(RetryableError):
    """Trino does not answer, is starting or stopping, or gave a query up for no fault of the query's."""


class VenueUnavailableError(RetryableError):
    """The exchange refused the connection, closed it or stayed silent."""


class CircuitOpenError(RetryableError):
    """A circuit breaker is open: nothing was tried."""


class SpecError(PermanentError):
    """A pipeline file or a setting is wrong.

    Args:
        path: Where, as a dotted path from the document's root (`spec.ingestion[0].venue`), or "" for the whole file.
        found: The value found, or what was missing.
        expected: What would have been accepted.
    """

    def __init__(self, path: str, found: str, expected: str) -> None:
        super().__init__(f"{path or 'document'}: found {found}, expected {expected}")
        self.path = path
        self.found = found
        self.expected = expected


class RecordError(PermanentError):
    """One message cannot become a record.

    Args:
        reason: A short stable word for metrics and dead letters (`malformed_json`, `price_precision`).
        detail: The value found and the value expected.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class SchemaError(PermanentError):
    """Two schemas that must agree do not."""


class StateError(PermanentError):
    """The commit state in a table forbids going on; the message names the way out."""


class StateFormatError(StateError):
    """A newer K2 wrote the commit state: nothing is wrong with the table, and nothing of it is to be recovered."""


class RawFileError(PermanentError):
    """A raw file is missing or damaged: the log may still have what it held, and what is owed stays in the ledger."""


class EngineError(PermanentError):
    """Trino answers and refuses: credentials, rights, a table it does not see, a version too old. Says the way out."""


class QueryError(PermanentError):
    """A request asks for something that cannot be answered as asked.

    Args:
        parameter: The request parameter at fault.
        detail: The value found and the value expected.
    """

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__(f"{parameter}: {detail}")
        self.parameter = parameter
        self.detail = detail


class SetupError(PermanentError):
    """This machine lacks something that K2 needs: a port, a download, disk space."""
