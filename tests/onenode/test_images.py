"""The images' layers: what each holds, and that nothing of the builder's machine gets into the files."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from onenode import images

ROOT = Path(__file__).parents[2]
LAYERS: dict[str, list[str]] = tomllib.loads((ROOT / "hack/images.toml").read_text())
EXTRAS = {
    "core": (),
    "ingest": ("ingest",),
    "sink": ("sink", "postgresql"),
    "query": ("query", "distributed", "postgresql"),
    "operator": ("operator",),
    "cli": ("cli", "ingest", "sink", "query", "distributed", "postgresql"),
}
PROJECT = "k2-lakehouse"


def module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "hack" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def closure(*extras: str) -> set[str]:
    """All packages that an installation of the project with these extras has, on this platform."""
    todo: list[tuple[str, frozenset[str]]] = [(PROJECT, frozenset(extras))]
    done: set[tuple[str, frozenset[str]]] = set()
    while todo:
        package = todo.pop()
        if package in done:
            continue
        done.add(package)
        for text in metadata.requires(package[0]) or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in {"", *package[1]}):
                todo.append((re.sub(r"[-_.]+", "-", needed.name).lower(), frozenset(needed.extras)))
    return {name for name, _ in done} - {PROJECT}


@pytest.mark.parametrize("layer", EXTRAS)
def test_a_layer_holds_what_the_project_declares(layer: str) -> None:
    core = set() if layer == "core" else closure()
    assert set(LAYERS[layer]) == closure(*EXTRAS[layer]) - core


def test_there_is_a_target_and_a_layer_for_each_image() -> None:
    targets = re.findall(r"^FROM runtime AS (\w+)$", (ROOT / "hack/Dockerfile").read_text(), re.MULTILINE)
    assert tuple(targets) == images.TARGETS
    assert set(LAYERS) == {"core", *images.TARGETS}


def test_pins_are_the_locks_with_all_their_hashes() -> None:
    lock = "aiohttp==1 \\\n    --hash=sha256:a \\\n    --hash=sha256:b\nattrs==2 ; x\n    --hash=sha256:c\n"
    pins = module("image_packages").pins
    assert pins(lock, ["attrs"]) == "attrs==2 ; x\n    --hash=sha256:c\n"
    assert pins(lock, ["aiohttp", "attrs"]) == lock


def test_a_package_that_the_lock_lacks_is_named() -> None:
    with pytest.raises(ValueError, match=r"requirements\.lock lacks kopf"):
        module("image_packages").pins("attrs==2\n", ["attrs", "kopf"])


def test_each_layers_packages_are_locked() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    for names in LAYERS.values():
        assert module("image_packages").pins(lock, names).count("==") >= len(names)


def test_sources_get_a_version_a_command_and_bytecode(tmp_path: Path) -> None:
    package = tmp_path / "services" / "k2_core"
    package.mkdir(parents=True)
    (package / "a.py").write_text("A = 1\n")
    (package / "a.py").chmod(0o600)
    sources = module("image_sources")
    sources._HERE = ROOT
    sources.main(str(tmp_path))
    found = metadata.Distribution.at(tmp_path / "services" / "k2_lakehouse.dist-info")
    assert (found.name, found.version) == (PROJECT, images.version())
    assert (package / "a.py").stat().st_mode & 0o777 == 0o644
    assert len(list(package.glob("__pycache__/a.*.pyc"))) == 1
    assert (tmp_path / "bin" / "k2").stat().st_mode & 0o111 == 0o111


def test_sources_that_do_not_compile_stop_the_build(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "a.py").write_text("A = \n")
    sources = module("image_sources")
    sources._HERE = ROOT
    with pytest.raises(SystemExit):
        sources.main(str(tmp_path))


class TestPipConfiguration:
    def test_files_and_environment_are_merged_as_pip_does(self, tmp_path: Path) -> None:
        machine, own = tmp_path / "pip.conf", tmp_path / "own.conf"
        machine.write_text("[global]\ntimeout = 1\nretries = 1\ncert = /somewhere/ca.pem\n")
        own.write_text("[global]\ntimeout = 2\n[install]\nretries = 2\n")
        environment = {"PIP_DEFAULT_TIMEOUT": "9", "PIP_RETRIES": "3", "PIP_CONFIG_FILE": "/x", "PATH": "/bin"}
        text = images.pip_configuration(environment, [machine, tmp_path / "missing.conf", own])
        options = dict(line.split(" = ") for line in text.splitlines() if " = " in line)
        assert options == {
            "timeout": "2",
            "retries": "3",
            "default-timeout": "9",
            "cert": "/etc/ssl/certs/ca-certificates.crt",
        }

    def test_folders_of_this_machine_are_left_out(self) -> None:
        assert "wheels" not in images.pip_configuration({"PIP_FIND_LINKS": "/opt/wheels"}, [])


def test_an_images_name_is_what_a_pod_gets_for_its_short_one() -> None:
    assert images.reference("sink") == f"docker.io/library/k2-sink:{images.version()}"


def test_a_layout_keeps_what_the_named_images_need_with_their_whole_names(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    manifests = {"a": {"config": "ca", "layers": ["shared", "la"]}, "b": {"config": "cb", "layers": ["shared"]}}
    for name, parts in manifests.items():
        described = [{"digest": f"sha256:{part}"} for part in parts["layers"]]
        text = json.dumps({"config": {"digest": f"sha256:{parts['config']}"}, "layers": described})
        (blobs / name).write_text(text)
    for name in ("ca", "cb", "shared", "la", "stale"):
        (blobs / name).touch()
    entries = [
        {"digest": f"sha256:{name}", "annotations": {"org.opencontainers.image.ref.name": f"x.org/{name}:1"}}
        for name in manifests
    ]
    (tmp_path / "index.json").write_text(json.dumps({"manifests": entries}))
    images.keep_named(tmp_path, ["x.org/a:1"])
    kept = json.loads((tmp_path / "index.json").read_text())["manifests"]
    assert [entry["annotations"]["io.containerd.image.name"] for entry in kept] == ["x.org/a:1"]
    assert {path.name for path in blobs.iterdir()} == {"a", "ca", "shared", "la"}
