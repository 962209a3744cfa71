"""The Tiltfile: it is Starlark, runs against Tilt's functions as they are documented, and names what exists.

Tilt itself is not needed: its functions are stood in for by ones that record their arguments; those that read files or
render (`read_yaml`, `helm`, `kustomize`) do what they say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
import starlark
import yaml

from derived.__main__ import ROOT
from support.chart import name_of, of_kind, run, tool

TILTFILE: Final = ROOT / "Tiltfile"
RECORDED: Final = (
    "version_settings",
    "allow_k8s_contexts",
    "config_define_bool",
    "local_resource",
    "docker_build",
    "fall_back_on",
    "sync",
    "run",
    "k8s_resource",
    "k8s_kind",
    "watch_file",
    "probe",
    "http_get_action",
)
_PRELUDE: Final = "config = struct(define_bool = config_define_bool, parse = config_parse)\n"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one of Tilt's functions."""

    function: str
    positional: tuple[Any, ...]
    named: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What a resource is called."""
        return str(self.positional[0] if self.positional else self.named["new_name"])


@dataclass(frozen=True, slots=True)
class Tilt:
    """What a Tiltfile told Tilt."""

    monitoring: bool
    calls: list[Call] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)
    manifests: list[Any] = field(default_factory=list)

    def load(self) -> Tilt:
        module = starlark.Module()
        for function in RECORDED:
            module.add_callable(function, self._recorder(function))
        for function, body in self._functions().items():
            module.add_callable(function, body)
        dialect = starlark.Dialect.extended()
        dialect.enable_top_level_stmt = True
        names = starlark.Globals.extended_by([starlark.LibraryExtension.StructType])
        for name, text in (("prelude", _PRELUDE), ("Tiltfile", TILTFILE.read_text())):
            starlark.eval(module, starlark.parse(name, text, dialect), names)
        return self

    def _functions(self) -> Mapping[str, Callable[..., Any]]:
        return {
            "config_parse": lambda: {"monitoring": True} if self.monitoring else {},
            "read_yaml": lambda path: yaml.safe_load(self._read(path)),
            "encode_yaml": yaml.safe_dump,
            "encode_yaml_stream": yaml.safe_dump_all,
            "decode_yaml_stream": lambda text: list(yaml.safe_load_all(text)),
            "kustomize": self._kustomize,
            "helm": self._helm,
            "k8s_yaml": self._k8s_yaml,
        }

    def _recorder(self, function: str) -> Callable[..., None]:
        return lambda *positional, **named: self.calls.append(Call(function, positional, named))

    def _read(self, path: str) -> str:
        self.paths.add(path)
        return (ROOT / path).read_text()

    def _kustomize(self, path: str) -> str:
        self.paths.add(path)
        done = run(tool("kubectl"), "kustomize", ROOT / path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _helm(self, path: str, *, name: str, namespace: str, values: list[str], skip_crds: bool) -> str:
        self.paths.update([path, *values])
        arguments = [f"--values={ROOT / value}" for value in values] + (["--skip-crds"] if skip_crds else [])
        done = run(tool("helm"), "template", name, ROOT / path, "--namespace", namespace, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _k8s_yaml(self, source: str) -> None:
        text = source if "\n" in source else self._read(source)
        self.manifests.extend(document for document in yaml.safe_load_all(text) if document)

    def of(self, *functions: str) -> list[Call]:
        return [call for call in self.calls if call.function in functions]

    @property
    def resources(self) -> Mapping[str, Call]:
        return {call.name: call for call in self.of("local_resource", "k8s_resource")}


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "monitoring"])
def tilt(request: pytest.FixtureRequest) -> Tilt:
    return Tilt(monitoring=request.param).load()


def test_each_path_in_it_exists(tilt: Tilt) -> None:
    named = set(tilt.paths)
    for call in tilt.calls:
        for key in ("deps", "only", "dockerfile"):
            value = call.named.get(key, [])
            named.update([value] if isinstance(value, str) else value)
    named.update(path for call in tilt.of("fall_back_on") for path in call.positional[0])
    named.update(str(call.positional[0]) for call in tilt.of("sync", "watch_file"))
    assert {"charts/k2", "manifests/dev", "manifests/pipeline.yaml", "hack/Dockerfile"} <= named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_paths_in_its_comments_and_commands_exist() -> None:
    words = re.findall(r"\b(?:manifests|charts|hack|services|operator)/[\w./-]*\w", TILTFILE.read_text())
    # `oci://…/charts/…` is a registry's.
    assert [word for word in words if not (ROOT / word).exists() and word != "charts/kube-prometheus-stack"] == []


def test_each_resource_waits_for_resources_that_exist(tilt: Tilt) -> None:
    known = set(tilt.resources)
    for name, call in tilt.resources.items():
        assert set(call.named.get("resource_deps", [])) - known == set(), name


def waits_for(tilt: Tilt, name: str) -> set[str]:
    direct = set(tilt.resources[name].named.get("resource_deps", []))
    return direct.union(*(waits_for(tilt, other) for other in direct))


def test_the_custom_resource_and_the_servers_come_first(tilt: Tilt) -> None:
    assert tilt.manifests[0]["kind"] == "CustomResourceDefinition"
    first = waits_for(tilt, "crypto")
    assert {"crd", "dev", "kafka", "s3", "postgresql", "k2-operator", "image-sink"} <= first
    assert waits_for(tilt, "crd") == set()
    assert ("monitoring" in first) is tilt.monitoring


def test_each_object_that_it_names_is_applied(tilt: Tilt) -> None:
    there = {
        ":".join([manifest["metadata"]["name"], manifest["kind"].lower(), manifest["metadata"].get("namespace", "")])
        for manifest in tilt.manifests
    }
    for call in tilt.of("k8s_resource"):
        for wanted in call.named.get("objects", []):
            assert any(found.startswith(wanted) for found in there), wanted
    workloads = {manifest["metadata"]["name"] for manifest in tilt.manifests}
    assert {call.name for call in tilt.of("k8s_resource") if call.positional} <= workloads


def test_images_are_targets_of_the_dockerfile(tilt: Tilt) -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\w+)$", (ROOT / "hack/Dockerfile").read_text(), re.MULTILINE))
    built = {str(call.named["target"]) for call in tilt.of("docker_build")}
    for call in tilt.of("local_resource"):
        built.update(re.findall(r"--target (\w+)", str(call.named.get("cmd", ""))))
    assert built == {"ingest", "sink", "query", "cli", "operator"}
    assert built <= targets


def test_live_update_goes_where_the_operator_looks_first(tilt: Tilt) -> None:
    (operator,) = [found for found in of_kind(tilt.manifests, "Deployment") if "k2" in name_of(found)]
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    path = next(found["value"] for found in container["env"] if found["name"] == "PYTHONPATH").split(":")
    targets = {str(call.positional[1]).rpartition("/")[0] for call in tilt.of("sync")}
    assert targets == {path[0]}
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    image_path = re.search(r"PYTHONPATH=(\S+)", (ROOT / "hack/Dockerfile").read_text())
    assert image_path is not None
    assert path[1:] == image_path[1].split(":")


def test_hooks_are_left_to_helm(tilt: Tilt) -> None:
    assert [found for found in tilt.manifests if found["kind"] == "Pod"] == []
