"""The whole process on real files and a real Kafka: each row once, whatever happens in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC
from pathlib import Path

import httpx
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from k2_core.errors import StateError
from k2_core.spec import parse_pipeline
from k2_core.topics import partition_of
from k2_core.types import Symbol
from k2_ingest.files.progress import Progress
from k2_ingest.files.reading import SourceFile
from k2_ingest.files.service import FileService, require_same_file
from k2_ingest.settings import IngestSettings
from support.asx import Trade, line, read, write
from support.file_source import FileWorkspace
from support.ingest import read_topic
from support.s3 import ACCESS_KEY, SIGNING_KEY, LocalS3
from support.waiting import wait_until

pytestmark = pytest.mark.kafka


def stored(workspace: FileWorkspace) -> Counter[Trade]:
    found: Counter[Trade] = Counter()
    for row in workspace.rows().to_pylist():
        said = dict(row["vendor_data"])
        texts = [said.get(key, "") for key in ("qualifier", "venue", "buyer_id")]
        at = row["exchange_timestamp"].astimezone(UTC)
        found[row["symbol"], row["price"], row["quantity"], at, texts[0], texts[1], texts[2]] += 1
    return found


def test_every_row_comes_out_identical_ones_too(workspace: FileWorkspace, tmp_path: Path) -> None:
    bhp, dvn = write(tmp_path / "bhp.csv", 5_000), write(tmp_path / "dvn.csv", 30)
    workspace.files = [("bhp-10", bhp, "BHP"), ("dvn-10", dvn, "DVN")]
    process = workspace.start()
    assert process.wait() == 0
    expected = Counter([*read(bhp, "BHP"), *read(dvn, "DVN")])
    assert stored(workspace) == expected
    assert max(expected.values()) > 1
    assert workspace.row_numbers() == {"asx.bhp-10": [*range(1, 5_001)], "asx.dvn-10": [*range(1, 31)]}
    for message in read_topic(workspace.bootstrap_servers, workspace.topic):
        key = message.key()
        assert isinstance(key, bytes)
        assert message.partition() == partition_of(Symbol(key.decode()), 3)
    [last] = process.said("ingest stops")
    assert (last["received"], last["unacknowledged"], last["dead_lettered"]) == (5_030, 0, 0)


def test_a_killed_process_goes_on_where_the_log_ends(workspace: FileWorkspace, tmp_path: Path) -> None:
    workspace.files = [("a", write(tmp_path / "a.csv", 200_000), "BHP"), ("b", write(tmp_path / "b.csv", 10), "BHP")]
    first = workspace.start(K2_INGEST_QUEUE_RECORDS="1000")
    wait_until(lambda: first.metric("k2_ingest_records_acknowledged_total") > 1_000, "1,000 acknowledged rows")
    first.kill()
    there = len(workspace.row_numbers()["asx.a"])
    assert 1_000 < there < 200_000
    second = workspace.start()
    assert second.wait() == 0
    [told] = [one for one in second.said("a file was read") if one["dataset"] == "asx.a"]
    assert told["rows_in_the_log_before"] >= there
    assert second.said("ingest stops")[0]["received"] == 200_010 - told["rows_in_the_log_before"]
    assert workspace.row_numbers() == {"asx.a": [*range(1, 200_001)], "asx.b": [*range(1, 11)]}


def test_it_idles_when_all_is_read_and_a_restart_writes_nothing(workspace: FileWorkspace, tmp_path: Path) -> None:
    workspace.files = [("a", write(tmp_path / "a.csv", 100), "BHP")]
    for _ in range(2):
        process = workspace.start(once=False)
        process.wait_said("all files are in the log")
        assert process.health().status_code == httpx.codes.OK
        assert process.metric('k2_ingest_files{state="done"}') == 1
        process.terminate()
        assert process.wait() == 0
    assert process.said("ingest stops")[0]["received"] == 0
    assert workspace.row_numbers() == {"asx.a": [*range(1, 101)]}


def test_told_to_stop_in_the_middle_it_drains(workspace: FileWorkspace, tmp_path: Path) -> None:
    workspace.files = [("a", write(tmp_path / "a.csv", 400_000), "BHP")]
    process = workspace.start(K2_INGEST_QUEUE_RECORDS="1000")
    wait_until(lambda: process.metric("k2_ingest_records_acknowledged_total") > 0, "acknowledged rows")
    process.terminate()
    assert process.wait() == 0
    received = process.said("ingest stops, all is in the log")[0]["received"]
    assert 0 < received < 400_000
    assert workspace.row_numbers() == {"asx.a": [*range(1, received + 1)]}


def test_bad_lines_become_dead_letters_and_the_rest_flows_on(workspace: FileWorkspace, tmp_path: Path) -> None:
    bad = {2: (b"a,b", "column_count"), 4: (line(4).replace(b"/2014,", b"/20x4,"), "exchange_timestamp_malformed")}
    bad[5] = (line(5).replace(b",30.05,", b",-30.05,"), "price_not_positive")
    lines = [bad[row][0] if row in bad else line(row) for row in range(1, 7)]
    path = tmp_path / "a.csv"
    path.write_bytes(b"\r\n".join(lines))
    workspace.files = [("a", path, "BHP")]
    for _ in range(2):  # a restart adds none
        process = workspace.start()
        assert process.wait() == 0
    assert workspace.row_numbers() == {"asx.a": [1, 3, 6]}
    letters = {int(headers["k2.row"]): (value, headers) for value, headers in workspace.letters()}
    assert len(letters) == len(workspace.letters()) == 3
    for row, (text, reason) in bad.items():
        value, headers = letters[row]
        assert (value, headers["k2.reason"], headers["k2.dataset"]) == (text, reason, "asx.a")
        assert (headers["k2.file"], headers["k2.source"], len(headers["k2.digest"])) == (str(path), "asx", 16)
        assert headers["k2.detail"]


def test_a_changed_file_is_refused_and_the_others_flow_on(workspace: FileWorkspace, tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.csv", 20), tmp_path / "b.csv"
    workspace.files = [("a", first, "BHP")]
    assert workspace.start().wait() == 0
    write(first, 21)
    workspace.files.append(("b", write(second, 10), "BHP"))
    process = workspace.start(once=False)
    assert process.wait() == 5
    old, new = (dict(row)["file"] for row in workspace.rows().column("vendor_data").to_pylist()[::25])
    assert workspace.row_numbers() == {"asx.a": [*range(1, 21)], "asx.b": [*range(1, 11)]}
    [refusal] = process.said("a file is refused")
    assert old != new
    assert f"asx.a ({first}): found a file with digest " in refusal["reason"]
    assert f"expected {old}, of which the log has rows to 20" in refusal["reason"]
    assert process.lines[-1]["message"] == refusal["reason"]


def test_a_file_that_is_missing_ends_it_and_is_named(workspace: FileWorkspace, tmp_path: Path) -> None:
    workspace.files = [("a", tmp_path / "nowhere.csv", "BHP")]
    process = workspace.start()
    assert process.wait() == 2
    assert "nowhere.csv" in process.lines[-1]["message"]


def test_a_file_that_changes_while_it_is_read_is_told(
    workspace: FileWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.files = [("a", write(tmp_path / "a.csv", 10), "BHP")]
    pipeline = parse_pipeline(workspace.document)
    settings = IngestSettings(kafka_bootstrap_servers=workspace.bootstrap_servers, ingest_stop_at_end=True)
    monkeypatch.setattr(SourceFile, "digest", lambda _: "0" * 16)  # as it was a moment ago
    with pytest.raises(StateError, match=r"after 0{16}, expected a file that stays as it is while it is read"):
        asyncio.run(FileService(settings, pipeline, pipeline.spec.ingestion[0]).run())


def test_a_topic_that_refuses_records_ends_the_process(workspace: FileWorkspace, tmp_path: Path) -> None:
    admin = AdminClient({"bootstrap.servers": workspace.bootstrap_servers})
    small = NewTopic(workspace.topic, 3, 1, config={"max.message.bytes": "100"})
    admin.create_topics([small])[workspace.topic].result(20)
    workspace.files = [("a", write(tmp_path / "a.csv", 10), "BHP")]
    process = workspace.start(K2_INGEST_FLUSH_TIMEOUT_S="1")
    assert process.wait() == 3
    assert process.said("has not acknowledged")[0]["unacknowledged"] > 0


def test_files_of_an_object_store(workspace: FileWorkspace, tmp_path: Path, s3: LocalS3) -> None:
    bucket = s3.bucket()
    path = write(s3.directory / "buckets" / bucket / "a.csv", 2_000)
    workspace.files = [("a", f"s3://{bucket}/a.csv", "BHP")]
    process = workspace.start(K2_S3_ENDPOINT=s3.endpoint, K2_S3_ACCESS_KEY=ACCESS_KEY, K2_S3_SECRET_KEY=SIGNING_KEY)
    assert process.wait() == 0
    assert stored(workspace) == Counter(read(path, "BHP"))


def test_the_same_file_is_accepted_and_another_is_not() -> None:
    require_same_file("asx.a", "a.csv", "d1", Progress())
    require_same_file("asx.a", "a.csv", "d1", Progress(3, "d1"))
    with pytest.raises(StateError, match=r"asx\.a \(a\.csv\): found a file with digest d2, expected d1, of which"):
        require_same_file("asx.a", "a.csv", "d2", Progress(3, "d1"))
