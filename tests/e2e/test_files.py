"""Files of an object store on a real cluster: each row of the real files once, over a kill of the pod that reads them.

The oracle is Python's csv module over the files, compared with the API's answers as a multiset: identical rows are
different trades.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from onenode.network import NODE_ADDRESS
from onenode.servers import BUCKET, PORTS
from support.asx import answered, read
from support.captures import capture_files
from support.feed import Feed, container
from support.site import Site

pytestmark = [pytest.mark.cluster, pytest.mark.captures, pytest.mark.timeout(1200)]

MARCH = datetime(2014, 3, 9, tzinfo=UTC), datetime(2014, 3, 15, tzinfo=UTC)


def give(site: Site, file: Path) -> str:
    """Put a file into the object store by its own protocol, and return its address."""
    user = f"{site.reached['s3_access_key']}:{site.reached['s3_secret_key']}"
    url = f"http://{NODE_ADDRESS}:{PORTS['s3']}/{BUCKET}/asx/{file.name}"
    signed = ("--aws-sigv4", "aws:amz:us-east-1:s3", "--user", user, "--upload-file", str(file))
    unread = ("--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD")
    done = site.run("curl", "--silent", "--show-error", "--fail-with-body", *unread, *signed, url)
    assert done.returncode == 0, done.stderr + done.stdout
    return f"s3://{BUCKET}/asx/{file.name}"


def test_files_in_object_storage_are_there_once_each_over_a_kill(site: Site) -> None:
    bhp, dvn = capture_files("asx/trades", "7078.csv") + capture_files("asx/trades", "7181.csv")
    expected = {"BHP": Counter(read(bhp, "BHP")), "DVN": Counter(read(dvn, "DVN"))}
    files = [
        {"name": name, "path": give(site, file), "symbol": symbol}
        for name, file, symbol in (("bhp-10", bhp, "BHP"), ("dvn-10", dvn, "DVN"))
    ]
    site.namespace("files")
    feed = Feed(site, "files", tuple(expected))
    feed.apply(ingestion=[{"name": "asx", "venue": "asx", "partitions": 3, "files": files}])
    pod = site.wait(lambda: [one for one in feed.pods("ingest") if container(one).get("containerID")], "its pod")[0]
    site.kill(pod)
    site.wait(
        lambda: any(container(one).get("restartCount", 0) for one in feed.pods("ingest")), "it to be started again"
    )
    feed.wait_phase("Running")
    for symbol, rows in expected.items():

        def there(symbol: str = symbol, count: int = rows.total()) -> object:
            found = feed.rows(symbol, *MARCH)
            return found if found is not None and len(found) >= count else None

        assert Counter(map(answered, site.wait(there, f"{rows.total()} rows of {symbol}"))) == rows
    site.kubectl("delete", "k2p", "files", "--namespace=files", "--timeout=150s")
    assert not site.items("files", "pods")
