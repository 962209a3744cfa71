"""The sources of a K2Pipeline: exchanges, which are listened to, and files, which are read.

Read through `k2_core.spec`; pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, model_validator

from k2_core.spec_fields import (
    RESOURCES_DESCRIPTION,
    FilePath,
    HttpUrl,
    Model,
    Name,
    PriceStep,
    QuantityStep,
    ResourcesSpec,
    SymbolName,
    WebSocketUrl,
    contradiction,
    keyed_by_name,
    rule,
    rules,
)
from k2_core.types import Symbol

Priority = Literal["critical", "normal", "low"]

EXCHANGE_PARTITIONS: Final = 50
FILE_PARTITIONS: Final = 30
"""Of a topic whose source does not say."""
STREAM_URL: Final = "wss://stream.binance.com:9443"
REST_URL: Final = "https://api.binance.com"
_REST_URLS: Final[Mapping[str, str]] = {
    "stream.binance.com": REST_URL,
    "data-stream.binance.vision": "https://data-api.binance.vision",
}
"""Of WebSocket servers whose REST server is another one, by their name."""

_READS_FILES: Final = "self.venue == 'asx'"
_ASSET_CLASS: Final = f"({_READS_FILES} ? 'equities' : 'crypto')"
_PARTITIONS: Final = (
    f"(has({{one}}.partitions) ? {{one}}.partitions : ({{one}}.venue == 'asx' ? {FILE_PARTITIONS} : "
    f"{EXCHANGE_PARTITIONS}))"
)
_OF_EXCHANGES: Final = ("market", "url", "restUrl", "symbols")
_EXPECTED_OF_FILES: Final = "nothing: venue asx is read from files"


class SymbolSpec(Model):
    """A symbol to ingest, how soon it may be deferred under load, and what is known of it."""

    name: SymbolName = Field(description="As the exchange writes it, in upper case.")
    priority: Priority = Field(default="normal", description="What may be deferred first under load: low, then normal.")
    tick_size: PriceStep | None = Field(
        default=None,
        description="What each price is a multiple of, a decimal number in quotes; others are found as off_tick. "
        "None: not checked.",
    )
    step_size: QuantityStep | None = Field(
        default=None,
        description="What each quantity is a multiple of, a decimal number in quotes; others are found as off_lot. "
        "None: not checked.",
    )


class FileSpec(Model):
    """A file of one symbol's trades. Its rows are known by source, name and row number for ever."""

    name: Name = Field(description="Of the file, whatever its path; with the source's it names the rows.")
    path: FilePath = Field(
        description="An s3:// URL, read with the storage's credentials; on a laptop also a file, seen from this one."
    )
    symbol: SymbolName = Field(description="Whose trades they are: rows do not say.")
    priority: Priority = Field(default="normal", description="What may be deferred first under load: low, then normal.")


class IngestionSpec(Model):
    """One source. Its Deployment and its part of metrics carry `name`."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                f"has(self.files) == ({_READS_FILES})",
                "expected the files of venue asx, and none of another venue",
                field=".files",
            ),
            rule(f"{_READS_FILES} || has(self.symbols)", "expected what to ingest", field=".symbols"),
            *(
                rule(f"self.venue != 'asx' || !has(self.{field})", f"expected {_EXPECTED_OF_FILES}", field=f".{field}")
                for field in _OF_EXCHANGES
            ),
            rule(
                f"!has(self.assetClass) || self.assetClass == {_ASSET_CLASS}",
                "expected equities of venue asx, crypto of another",
                field=".assetClass",
                shown=f"'found ' + self.assetClass + ', expected ' + {_ASSET_CLASS}",
            ),
            rule(
                f"{_PARTITIONS.format(one='self')} >= {_PARTITIONS.format(one='oldSelf')}",
                "expected at least as many as before: they can only grow",
                field=".partitions",
            ),
        )
    )

    name: Name = Field(description="Of the source; a DNS label.")
    venue: Literal["binance", "asx"] = Field(
        description="The exchange; binance is listened to, asx is read from files."
    )
    market: Literal["spot"] | None = Field(
        default=None, description="Which of the exchange's markets; none: spot. Not for files."
    )
    asset_class: Literal["crypto", "equities"] | None = Field(
        default=None, description="Second part of the topic's name; none: what the venue trades, the only one accepted."
    )
    url: WebSocketUrl | None = Field(
        default=None, description="The exchange's WebSocket server, without a path; none: the public one."
    )
    rest_url: HttpUrl | None = Field(
        default=None,
        description="Its REST server, without a path; none: the one that belongs to url, by default the public one.",
    )
    symbols: tuple[SymbolSpec, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        strict=False,
        description="What to ingest from an exchange; each symbol once.",
        json_schema_extra=keyed_by_name(),
    )
    files: tuple[FileSpec, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        strict=False,
        description="What to read, in this order; each file once. Others may follow later.",
        json_schema_extra=keyed_by_name(),
    )
    partitions: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Of the topic; they can only grow. They bound how many sinks share the work. "
        "None: 50, of files 30.",
    )
    gap_threshold_ids: int = Field(
        default=1, ge=1, le=1_000_000_000, description="Missing trade ids in a row that make an alert."
    )
    silence_threshold_seconds: int = Field(
        default=60,
        ge=1,
        le=86400,
        description="Seconds without any message that make an alert; of files it has no effect.",
    )
    resources: ResourcesSpec | None = Field(default=None, description=RESOURCES_DESCRIPTION)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for field in ("symbols", "files"):
            seen: set[str] = set()
            for at, one in enumerate(getattr(self, field) or ()):
                if one.name in seen:
                    what = field.removesuffix("s")
                    raise contradiction(f"{field}[{at}]", f"{one.name} a second time", f"each {what} once")
                seen.add(one.name)
        return self

    @model_validator(mode="after")
    def _as_the_venue_is_read(self) -> Self:
        if self.reads_files and self.files is None:
            raise contradiction("files", "nothing", "the files of venue asx")
        if not self.reads_files and self.files is not None:
            raise contradiction("files", f"{len(self.files)} of venue {self.venue}", "none: only venue asx has files")
        if not self.reads_files and self.symbols is None:
            raise contradiction("symbols", "nothing", "what to ingest")
        for field, value in zip(_OF_EXCHANGES, (self.market, self.url, self.rest_url, self.symbols), strict=True):
            if self.reads_files and value is not None:
                raise contradiction(field, value if isinstance(value, str) else "some", _EXPECTED_OF_FILES)
        if self.asset_class not in (None, self.traded):
            raise contradiction("assetClass", str(self.asset_class), self.traded)
        return self

    @property
    def reads_files(self) -> bool:
        """Whether the source is files and no connection to an exchange."""
        return self.venue == "asx"

    @property
    def traded(self) -> str:
        """What the venue trades, as a part of the topic's name."""
        return "equities" if self.reads_files else "crypto"

    @property
    def topic_partitions(self) -> int:
        """How many partitions the source asks for, said or not."""
        return self.partitions or (FILE_PARTITIONS if self.reads_files else EXCHANGE_PARTITIONS)

    @property
    def exchange_market(self) -> str:
        """The exchange's market in which trades are numbered; of files each dataset is one of its own."""
        return self.market or "spot"

    @property
    def stream_url(self) -> str:
        """The exchange's WebSocket server."""
        return self.url or STREAM_URL

    @property
    def rest_server(self) -> str:
        """The exchange's REST server."""
        return self.rest_url or rest_server_of(self.stream_url)

    @property
    def classed_symbols(self) -> tuple[SymbolSpec, ...]:
        """Every symbol with its class, in the order of the file; one of several files once for each."""
        of_files = (SymbolSpec(name=file.symbol, priority=file.priority) for file in self.files or ())
        return self.symbols or tuple(of_files)

    @property
    def symbol_names(self) -> tuple[Symbol, ...]:
        """The symbols in the order of the file, each once."""
        return tuple(dict.fromkeys(Symbol(symbol.name) for symbol in self.classed_symbols))

    def dataset(self, file: FileSpec) -> str:
        """Return what a file of this source is called in its rows: `source.file`, which no other source can have."""
        return f"{self.name}.{file.name}"


def rest_server_of(stream_url: str) -> str:
    """Return the REST server that belongs to a WebSocket server: the exchange's own, or the same address."""
    parts = urlsplit(stream_url)
    secure = parts.scheme == "wss"
    return _REST_URLS.get(parts.hostname or "") or f"{'https' if secure else 'http'}://{parts.netloc}"
