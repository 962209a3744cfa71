"""`python -m k2_operator render`: prints what would be applied for a pipeline file; needs no cluster.

Called by `__main__`. Secrets are not read, so the config hashes are those of secrets that were never seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from k2_core.errors import SpecError
from k2_operator.config import OperatorConfig, load_config
from k2_operator.pipeline import effective
from k2_operator.rendering.deployments import Inputs
from k2_operator.rendering.manifests import render

PLACEHOLDER_UID: Final = "00000000-0000-0000-0000-000000000000"
"""Stands for the uid that the API server gives the resource."""


def render_files(paths: list[Path], config_path: Path | None) -> str:
    """Return the manifests of all pipelines in some files as one YAML stream.

    Raises:
        SpecError: A file cannot be read, or holds no pipeline.
    """
    config = OperatorConfig() if config_path is None else load_config(config_path)
    manifests = [
        manifest
        for path in paths
        for document in _documents(path)
        for manifest in render(Inputs(effective(document, config), config, PLACEHOLDER_UID, {}))
    ]
    return yaml.dump_all(manifests, Dumper=_PlainDumper, sort_keys=False, explicit_start=True)


class _PlainDumper(yaml.SafeDumper):
    """YAML without anchors: parts that are the same object are written out each time."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # the library's signature
        return True


def _documents(path: Path) -> list[dict[str, Any]]:
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError("", f"{path} ({' '.join(str(error).split())})", "readable YAML") from error
    found = [document for document in documents if document is not None]
    for document in found:
        if not isinstance(document, dict):
            raise SpecError("", f"{path}: a document of type {type(document).__name__}", "a K2Pipeline")
    return found
