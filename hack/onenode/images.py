"""The images of K2, built without a container engine and given to a cluster's containerd.

Owns `images/` in K2's cache folder (buildah's storage, so that a second build only redoes what has changed) and the
local base image. Called by `hack/cluster images`, as root. It pushes to no registry.
"""

from __future__ import annotations

import configparser
import io
import json
import os
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from k2_cli.stack.artifacts import cache_root
from k2_core.errors import SetupError
from onenode import trino_image
from onenode.tools import Say, exclusive, say_on_stderr, tool

ROOT: Final = Path(__file__).parents[2]
TARGETS: Final = ("ingest", "sink", "query", "operator", "cli")
"""Those of hack/Dockerfile."""
ALL: Final = (*TARGETS, trino_image.TARGET)
RELEASE: Final = "bookworm"
"""The Debian whose Python is the images' and the lock's, 3.11."""
BASE: Final = f"localhost/k2-base:{RELEASE}"
_BASE_PACKAGES: Final = "python3,python3-pip,ca-certificates"
_NOT_NEEDED: Final = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")
_REGISTRY: Final = "docker.io/library"
"""Where a name without a registry leads, for Kubernetes and containerd alike."""
_ACCEPT_LOCAL: Final = '{"default": [{"type": "insecureAcceptAnything"}]}'
"""Nothing is pulled: the policy of containers-policy.json(5) is about the local base alone."""
_SHARED_LAYERS: Final = 3
"""The base, the user and the packages of k2_core: the first ones of each image."""
_TIMEOUT_S: Final = 1800.0
_CERTIFICATES: Final = "/etc/ssl/certs/ca-certificates.crt"


def version() -> str:
    """The project's version, which is the images' tag."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def reference(target: str) -> str:
    """Full name of an image, as a pod that asks for `k2-<target>:<version>` gets it; Trino's is its official one."""
    if target == trino_image.TARGET:
        return trino_image.reference()
    return f"{_REGISTRY}/k2-{target}:{version()}"


def possible(say: Say = say_on_stderr) -> tuple[str, ...]:
    """Return what this machine can build: all, or all but Trino's where no Java is there for it, which is said."""
    try:
        trino_image.java_home()
    except SetupError as error:
        say(f"without the image of Trino: {error}")
        return TARGETS
    return ALL


class Builder:
    """Builds images in a storage of its own.

    Args:
        say: Told about every step that takes seconds.
    """

    def __init__(self, say: Say = say_on_stderr) -> None:
        if os.geteuid() != 0:
            raise SetupError("found no root, expected it for building images")
        self._say = say
        self._home = cache_root() / "images"
        self._home.mkdir(parents=True, exist_ok=True)
        self._policy = self._home / "policy.json"
        self._policy.write_text(_ACCEPT_LOCAL)
        self._buildah = str(tool("buildah", say))

    def build(self, targets: Sequence[str], base: str = BASE) -> None:
        """Build images; what has not changed since the last time is taken from there.

        Args:
            targets: Of `ALL`.
            base: Image under all of them; the default one is made with debootstrap.

        Raises:
            SetupError: A build failed; with the end of what it said.
        """
        with exclusive(self._home / "lock", self._say, "another process is building images"):
            if base == BASE and not self._has(BASE):
                self._make_base()
            with tempfile.TemporaryDirectory(prefix="k2-pip-") as scratch:
                pip = Path(scratch) / "pip.conf"
                pip.write_text(pip_configuration(os.environ, _pip_files()))
                for target in (target for target in targets if target != trino_image.TARGET):
                    self._say(f"building k2-{target}")
                    self._run("bud", *self._options(target, base, pip), str(ROOT))
            if trino_image.TARGET in targets:
                self._build_trino(base)

    def _build_trino(self, base: str) -> None:
        made_of = trino_image.fingerprint(trino_image.java_home(), str(self._inspect(base)["FromImageID"]))
        name = trino_image.reference()
        if self._has(name) and self._inspect(name)["OCIv1"]["config"]["Labels"].get(trino_image.MADE_OF) == made_of:
            return
        self._say(f"building {name}")
        with tempfile.TemporaryDirectory(prefix="trino-", dir=self._home) as scratch:
            trino_image.build(self._run, self._signed(), base, made_of, Path(scratch))

    def _options(self, target: str, base: str, pip: Path) -> list[str]:
        # What pip needs to know on this machine is mounted: it gets into no layer.
        mounts = [f"--volume={pip}:/etc/pip.conf:ro"]
        if Path(_CERTIFICATES).exists():
            mounts.append(f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro")
        named = [f"--file={ROOT / 'hack' / 'Dockerfile'}", f"--target={target}", f"--tag={reference(target)}"]
        labels = [f"--label=org.opencontainers.image.version={version()}"]
        return [
            "--layers",
            "--pull-never",
            "--quiet",
            f"--build-arg=BASE={base}",
            *named,
            *labels,
            *mounts,
            *self._signed(),
        ]

    def export(self, targets: Sequence[str], archive: Path) -> None:
        """Write images into one OCI archive, in which the layers that they share are once.

        Raises:
            SetupError: An image was not built, or the disk is full.
        """
        layout = self._home / "layout"
        with exclusive(self._home / "lock", self._say, "another process is building images"):
            self._seed(layout, targets[0], _SHARED_LAYERS)
            if trino_image.TARGET in targets:
                self._seed(layout, trino_image.TARGET)
            for target in targets:
                place = f"oci:{layout}:{reference(target)}"
                self._run("push", "--quiet", *self._signed(), reference(target), place)
            keep_named(layout, [reference(target) for target in targets])
            _check(["tar", f"--directory={layout}", f"--file={archive}", "--create", "."])

    def _seed(self, layout: Path, target: str, first: int | None = None) -> None:
        """Put an image's layers into the layout as they are, if one of the first ones (None: of all) is missing.

        A push to a layout compresses each layer that is not there yet by its own digest: half a minute for those that
        all images share. A push to a folder compresses nothing.
        """
        blobs = layout / "blobs" / "sha256"
        diff_ids = self._inspect(reference(target))["OCIv1"]["rootfs"]["diff_ids"]
        layers = [str(layer).partition(":")[2] for layer in diff_ids]
        if all((blobs / layer).exists() for layer in layers[:first]):
            return
        blobs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="export-", dir=self._home) as scratch:
            self._run("push", "--quiet", "--disable-compression", *self._signed(), reference(target), f"dir:{scratch}")
            for layer in layers:
                (Path(scratch) / layer).replace(blobs / layer)

    def _make_base(self) -> None:
        self._say(f"making the base image of Debian {RELEASE}, once (a minute)")
        with tempfile.TemporaryDirectory(prefix="base-", dir=self._home) as scratch:
            root = Path(scratch) / "root"
            mirror = _mirror()
            debootstrap = [str(tool("debootstrap", self._say)), "--variant=minbase", f"--include={_BASE_PACKAGES}"]
            _check([*debootstrap, RELEASE, str(root), *([mirror] if mirror else [])])
            for folder in _NOT_NEEDED:
                shutil.rmtree(root / folder, ignore_errors=True)
            container = self._run("from", "scratch").strip()
            try:
                self._run("add", "--quiet", container, str(root), "/")
                self._run("config", "--env=PATH=/usr/local/bin:/usr/bin:/bin", "--env=LANG=C.UTF-8", container)
                self._run("commit", "--quiet", *self._signed(), container, BASE)
            finally:
                self._run("rm", container)

    def _has(self, image: str) -> bool:
        listed = json.loads(self._run("images", "--json") or "[]") or []
        return any(image in (entry["names"] or ()) for entry in listed)

    def _inspect(self, image: str) -> Any:
        return json.loads(self._run("inspect", "--type=image", image))

    def _signed(self) -> list[str]:
        return [f"--signature-policy={self._policy}"]

    def _run(self, command: str, *arguments: str) -> str:
        storage = [f"--root={self._home / 'storage'}", "--runroot=/run/k2-images", "--storage-driver=overlay"]
        environment = os.environ | {"BUILDAH_ISOLATION": "chroot"}
        return _check([self._buildah, *storage, command, *arguments], environment)


def pip_configuration(environment: Mapping[str, str], files: Sequence[Path]) -> str:
    """Gather what configures pip on this machine into one file, for a build that sees neither of its sources.

    Args:
        environment: `PIP_<OPTION>` wins over files, as in pip.
        files: In pip's order, the later ones win; those that are missing are passed over.
    """
    parser = configparser.RawConfigParser()
    parser.read(files)
    options: dict[str, str] = {}
    for section in ("global", "install"):
        options |= dict(parser[section]) if parser.has_section(section) else {}
    options |= {
        key.removeprefix("PIP_").lower().replace("_", "-"): value
        for key, value in environment.items()
        if key.startswith("PIP_") and key != "PIP_CONFIG_FILE"
    }
    # Paths of this machine mean nothing inside; the certificates are mounted where pip's own default is told to look.
    options = {key: value for key, value in options.items() if key != "cert" and not Path(value).is_absolute()}
    result = configparser.RawConfigParser()
    result["global"] = options | {"cert": _CERTIFICATES}
    text = io.StringIO()
    result.write(text)
    return text.getvalue()


def _pip_files() -> list[Path]:
    own = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "pip" / "pip.conf"
    named = os.environ.get("PIP_CONFIG_FILE")
    return [Path("/etc/pip.conf"), Path.home() / ".pip" / "pip.conf", own, *([Path(named)] if named else [])]


def keep_named(layout: Path, references: Collection[str]) -> None:
    """Have an OCI layout hold these images alone, each with its whole name for containerd's importer.

    Args:
        layout: Folder of the layout.
        references: Names of the images that stay.
    """
    index = json.loads((layout / "index.json").read_text())
    index["manifests"] = [entry for entry in index["manifests"] if _reference_name(entry) in references]
    for entry in index["manifests"]:
        entry["annotations"]["io.containerd.image.name"] = _reference_name(entry)
    (layout / "index.json").write_text(json.dumps(index))
    used = set()
    for entry in index["manifests"]:
        manifest = json.loads(_blob(layout, entry).read_text())
        used |= {_blob(layout, part) for part in (entry, manifest["config"], *manifest["layers"])}
    for blob in (layout / "blobs" / "sha256").iterdir():
        if blob not in used:
            blob.unlink()


def _reference_name(entry: Mapping[str, Mapping[str, str]]) -> str:
    return entry.get("annotations", {}).get("org.opencontainers.image.ref.name", "")


def _blob(layout: Path, descriptor: Mapping[str, str]) -> Path:
    return layout / "blobs" / descriptor["digest"].replace(":", "/")


def _mirror() -> str:
    """Where this machine's apt finds its release's packages; empty if that is unknown."""
    if shutil.which("apt-get") is None:
        return ""
    found = _check(["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"])
    places = [line.split() for line in found.splitlines()]
    return next((place for place, release, *_ in places if release == RELEASE), "")


def _check(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr)[-3000:].strip()
        raise SetupError(f"`{Path(command[0]).name}` ended with {done.returncode}, expected 0; it said:\n{said}")
    return done.stdout
