"""Kubeconfig files: complete in themselves, and nobody else's to read."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import yaml

from onenode import kubeconfig
from onenode.certificates import Pair


def test_it_holds_the_server_and_the_clients_key(tmp_path: Path) -> None:
    for name in ("ca", "crt", "key"):
        (tmp_path / name).write_text(name)
    path = tmp_path / "new" / "kubeconfig"
    kubeconfig.write(path, "https://127.0.0.1:1", tmp_path / "ca", Pair(tmp_path / "crt", tmp_path / "key"))
    written = yaml.safe_load(path.read_text())
    cluster, user = written["clusters"][0]["cluster"], written["users"][0]["user"]
    assert cluster["server"] == "https://127.0.0.1:1"
    assert base64.b64decode(cluster["certificate-authority-data"]) == b"ca"
    assert base64.b64decode(user["client-certificate-data"]) == b"crt"
    assert base64.b64decode(user["client-key-data"]) == b"key"
    assert written["current-context"] == written["contexts"][0]["name"]


def test_only_its_owner_reads_it_also_when_it_is_written_again(tmp_path: Path) -> None:
    for name in ("ca", "crt", "key"):
        (tmp_path / name).write_text(name)
    path = tmp_path / "kubeconfig"
    path.touch(mode=0o644)
    kubeconfig.write(path, "https://127.0.0.1:1", tmp_path / "ca", Pair(tmp_path / "crt", tmp_path / "key"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
