"""The pause image: an OCI layout whose digests hold."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from onenode.oci import write_image


@pytest.fixture
def layout(tmp_path: Path) -> dict[str, bytes]:
    archive = tmp_path / "image.tar"
    write_image(archive, "k2.dev/pause:1", b"program", "amd64")
    with tarfile.open(archive) as content:
        return {entry.name: stream.read() for entry in content if (stream := content.extractfile(entry)) is not None}


def test_each_blob_has_its_digest_as_name(layout: dict[str, bytes]) -> None:
    blobs = {name: content for name, content in layout.items() if name.startswith("blobs/")}
    assert len(blobs) == 3
    assert all(name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}" for name, content in blobs.items())


def test_the_index_leads_to_the_program(layout: dict[str, bytes]) -> None:
    def blob(descriptor: dict[str, Any]) -> bytes:
        content = layout[f"blobs/{descriptor['digest'].replace(':', '/')}"]
        assert descriptor["size"] == len(content)
        return content

    entry = json.loads(layout["index.json"])["manifests"][0]
    assert entry["annotations"]["io.containerd.image.name"] == "k2.dev/pause:1"
    manifest = json.loads(blob(entry))
    config = json.loads(blob(manifest["config"]))
    layer = blob(manifest["layers"][0])
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
    assert config["config"]["Entrypoint"] == ["/program"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as content:
        program = content.getmember("program")
        assert program.mode == 0o755
        assert not config["config"]["User"].startswith("0")
