"""A pipeline's tables go with all their files, and nothing else does: on real catalogs, warehouses and S3."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchNamespaceError
from pyiceberg.io import load_file_io

from k2_core.config import ServiceSettings
from k2_core.errors import CatalogUnavailableError, StateError
from k2_core.exits import MESSAGE_PATH
from k2_core.ledger_history import LEDGER
from k2_core.letters import DLQ
from k2_core.listing import listed, located
from k2_core.quality import QUALITY
from k2_core.raw_files import RawFiles, Section, raw_rows
from k2_core.records import TRADES, TableForm
from k2_core.tables import ensure_table, open_catalog
from k2_core.types import Offset, Partition, TopicName
from k2_sink import removal
from k2_sink.removal import Removal, Removed
from support.lake import environment_settings, lake_settings, table_form
from support.postgres import LocalPostgres
from support.records import make_trades
from support.s3 import LocalS3

UID, OTHER = "uid-of-ours", "uid-of-another"
AT = (TopicName("t"), Partition(0))


@dataclass
class Lake:
    """A catalog and a warehouse with tables of two pipelines, in one namespace and another."""

    settings: ServiceSettings
    catalog: Catalog

    def make(self, namespace: str, form: TableForm, uid: str) -> None:
        """Make a table; trades with two commits and a raw file, and what a sink that was killed left behind."""
        table = ensure_table(self.catalog, namespace, form, uid)
        if form is not TRADES:
            return
        for _ in range(2):
            table.append(table_form(make_trades(20)))
        columns = {name: [0] for name in ("partition", "timestamp_ms", "offset")}
        rows = raw_rows(**columns, key=[b"A"], value=[b"v"])
        section = Section(*AT, Offset(0), Offset(1), 1, None)
        RawFiles(table.io, table.location()).write({AT[0]: rows}, [section], 1_764_088_369_000)
        with table.io.new_output(f"{table.location()}/data/litter.parquet").create() as stream:
            stream.write(b"nobody names it")

    def make_all(self) -> None:
        """Make what a pipeline has, and its neighbours."""
        for form in (TRADES, LEDGER, DLQ):
            self.make("market", form, UID)
        self.make("elsewhere", TRADES, OTHER)

    def remove(self, uid: str = UID) -> Removed:
        """Remove."""
        return Removal(self.catalog, self.warehouse, "market", uid).run()

    @property
    def warehouse(self) -> str:
        """Its URL."""
        return str(self.settings.warehouse)

    def tables(self, namespace: str = "market") -> set[str]:
        """Return the names of tables; none where there is no namespace."""
        try:
            return {name[-1] for name in self.catalog.list_tables((namespace,))}
        except NoSuchNamespaceError:
            return set()

    def files(self) -> dict[str, int]:
        """Return the files in the warehouse, with their sizes."""
        io = load_file_io(dict(self.catalog.properties), self.warehouse)
        _, root = located(io, self.warehouse)
        return {one.path.removeprefix(root): one.size for one in listed(io, self.warehouse, below=True)}

    def has_namespace(self, name: str) -> bool:
        """Whether the catalog knows it."""
        return (name,) in self.catalog.list_namespaces()


def opened(settings: ServiceSettings) -> Iterator[Lake]:
    with closing(open_catalog(settings)) as catalog:
        yield Lake(settings, catalog)


@pytest.fixture
def anywhere(lake: ServiceSettings) -> Iterator[Lake]:
    """A folder with a catalog in a file; or a REST catalog and S3."""
    yield from opened(lake)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Lake]:
    """A folder, for what is the same everywhere."""
    yield from opened(lake_settings(tmp_path))


@dataclass
class Served:
    """PostgreSQL and S3, as a cluster has them."""

    environment: dict[str, str]
    bucket: Path
    lake: Lake


@pytest.fixture
def served(postgres: LocalPostgres, s3: LocalS3) -> Iterator[Served]:
    """A catalog in PostgreSQL, and a bucket whose objects and folders can be seen on the server's disk."""
    bucket = s3.bucket()
    environment = {"K2_CATALOG_URI": postgres.database(), **s3.environment(bucket)}
    for made in opened(environment_settings(environment)):
        yield Served(environment, s3.directory / "buckets" / bucket, made)


def test_everything_of_the_pipeline_goes_and_nothing_of_others(anywhere: Lake) -> None:
    anywhere.make("elsewhere", TRADES, OTHER)
    before = anywhere.files()
    for form in (TRADES, LEDGER, DLQ):
        anywhere.make("market", form, UID)
    made = len(anywhere.files()) - len(before)
    done = anywhere.remove()
    assert {name.rpartition(".")[2] for name in done.tables} == {TRADES.name, LEDGER.name, DLQ.name}
    assert done.files == made
    assert done.left == ()
    assert anywhere.tables() == set()
    assert not anywhere.has_namespace("market")
    assert anywhere.files() == before
    assert anywhere.tables("elsewhere") == {TRADES.name}
    assert anywhere.remove() == Removed((), 0, ())


def test_a_table_of_another_owner_is_left_and_told(anywhere: Lake) -> None:
    anywhere.make("market", TRADES, OTHER)
    anywhere.catalog.create_table(("market", "notes"), schema=LEDGER.iceberg_schema)
    before = anywhere.files()
    anywhere.make("market", LEDGER, UID)
    anywhere.make("market", QUALITY, UID)
    done = anywhere.remove()
    assert dict(done.left) == {"market.trades": OTHER, "market.notes": "nobody"}
    assert f"left what is not this pipeline's: market.notes (of nobody), market.trades (of {OTHER})" in str(done)
    assert anywhere.tables() == {TRADES.name, "notes"}
    assert anywhere.has_namespace("market")
    assert anywhere.files() == before


def test_as_a_job_runs_it_no_object_stays_and_not_even_a_folder(served: Served, tmp_path: Path) -> None:
    served.lake.make_all()
    elsewhere = {file for file in served.bucket.rglob("*") if "elsewhere" in file.parts}
    assert any(file.is_file() for file in elsewhere)
    environment = served.environment | process_environment(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "k2_sink.removal"], env={**os.environ, **environment}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    said = (tmp_path / "message").read_text()
    assert said.startswith("3 tables dropped and ")
    assert not [file for file in served.bucket.rglob("*") if "market" in file.parts]
    assert not [file for file in served.bucket.rglob("*k2-removal*") if file.is_file()]
    assert {file for file in served.bucket.rglob("*") if "elsewhere" in file.parts} == elsewhere
    assert served.lake.tables("elsewhere") == {TRADES.name}


def process_environment(folder: Path) -> dict[str, str]:
    source = {"name": "binance", "venue": "binance", "symbols": [{"name": "BTCUSDT"}]}
    document = {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "K2Pipeline",
        "metadata": {"name": "crypto"},
        "spec": {"ingestion": [source]},
    }
    file = folder / "pipeline.yaml"
    file.write_text(yaml.safe_dump(document))
    return {"K2_PIPELINE_FILE": str(file), "K2_PIPELINE_UID": UID, MESSAGE_PATH: str(folder / "message")}


class Killed(BaseException):
    """The process has died, as nothing in it can catch."""


def dying(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Have the process die when it has changed so many things."""
    left = [after]

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return original(*arguments, **more)

        return call

    def one_by_one(files: Any, paths: Sequence[str]) -> int:
        return sum(deleted(files, [path]) for path in paths)

    deleted = counted(removal._deleted)
    monkeypatch.setattr(removal, "_deleted", one_by_one)
    monkeypatch.setattr(removal, "_drop_folder", counted(removal._drop_folder))
    for name in ("_write_note", "_drop_namespace"):
        monkeypatch.setattr(Removal, name, counted(getattr(Removal, name)))
    kind = removal.Removal
    original = kind._drop

    def drop(self: Removal, table: Any) -> int:
        monkeypatch.setattr(self._catalog, "drop_table", counted(type(self._catalog).drop_table.__get__(self._catalog)))
        return original(self, table)

    monkeypatch.setattr(kind, "_drop", drop)


def test_killed_at_any_point_it_goes_on(here: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    here.make("elsewhere", TRADES, OTHER)
    before, after = here.files(), 0
    while True:
        for form in (TRADES, LEDGER):
            here.make("market", form, UID)
        try:
            with monkeypatch.context() as context:
                dying(context, after)
                here.remove()
        except Killed:
            here.remove()
        else:
            break
        finally:
            assert (here.files(), here.tables(), here.has_namespace("market")) == (before, set(), False), after
        after += 1
    assert after > 15


def test_what_another_made_in_the_place_of_a_table_that_is_half_gone_stays(
    here: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.make("market", TRADES, UID)
    with monkeypatch.context() as context:
        context.setattr(Removal, "_delete", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            here.remove()  # the catalog has forgotten it, its last file is there
    assert here.tables() == set()
    assert any(name.endswith(".metadata.json") for name in here.files())
    half_gone = set(here.files())
    here.make("market", TRADES, OTHER)
    new = here.files().keys() - half_gone
    here.remove()
    assert here.files().keys() == new
    assert here.tables() == {TRADES.name}


def test_a_table_in_the_folder_of_one_that_is_to_go_forbids_it(here: Lake) -> None:
    here.make("market", TRADES, UID)
    location = here.catalog.load_table(("market", "trades")).location()
    here.catalog.create_table(("market", "guest"), schema=LEDGER.iceberg_schema, location=f"{location}/guest")
    before = here.files()
    with pytest.raises(StateError, match=r"found market\.guest, which is to stay, in its folder"):
        here.remove()
    assert here.files() == before


def test_a_table_whose_folder_is_the_warehouse_forbids_it(here: Lake) -> None:
    properties = {"k2.pipeline": UID}
    here.catalog.create_namespace("market")
    here.catalog.create_table(
        ("market", "all"), schema=LEDGER.iceberg_schema, location=here.warehouse, properties=properties
    )
    here.make("elsewhere", TRADES, OTHER)
    before = here.files()
    with pytest.raises(StateError, match="expected one below the warehouse"):
        here.remove()
    assert here.files() == before


def test_where_nothing_is_nothing_is_removed(here: Lake) -> None:
    here.catalog.create_namespace("market")  # of somebody who has not begun yet
    assert here.remove() == Removed((), 0, ())
    assert here.has_namespace("market")


def test_a_note_that_was_cut_short_is_of_a_run_that_had_dropped_nothing(here: Lake) -> None:
    here.make("market", LEDGER, UID)
    Path(here.warehouse.removeprefix("file://"), f"k2-removal-{UID}.json").write_text("[{")
    here.remove()
    assert here.files() == {}


def test_a_catalog_that_is_away_is_said_with_a_status(
    here: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"K2_CATALOG_URI": "postgresql://k2:k2@127.0.0.1:1/k2", "K2_WAREHOUSE": here.warehouse}
    for name, value in (environment | process_environment(tmp_path)).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CatalogUnavailableError):
        open_catalog(environment_settings(environment))
    assert removal.main() == 3
    assert (tmp_path / "message").read_text().startswith("k2-removal: catalog: found")


def test_in_this_process_it_says_what_it_did(here: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here.make("market", LEDGER, UID)
    environment = {"K2_CATALOG_URI": here.settings.catalog_uri.get_secret_value()} if here.settings.catalog_uri else {}
    environment |= {"K2_WAREHOUSE": here.warehouse} | process_environment(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert removal.main() == 0
    assert (tmp_path / "message").read_text() == "1 tables dropped and 1 files deleted"
    assert here.tables() == set()
