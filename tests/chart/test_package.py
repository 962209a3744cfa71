"""The chart as a package: it lints, holds nothing stray, and is the version of the project."""

from __future__ import annotations

import re
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml

from derived.__main__ import CHART, VALUES
from support.chart import ROOT, VALUE_SETS, run, tool
from support.site import PREVIOUS_CHART

EXPECTED = re.compile(
    r"""k2/(Chart\.yaml|values\.yaml|values\.schema\.json|README\.md|\.helmignore
    |crds/[a-z0-9.]+\.yaml
    |templates/([a-z-]+\.yaml|_helpers\.tpl|NOTES\.txt|tests/[a-z-]+\.yaml)
    |files/(alerts/[a-z-]+\.yaml|dashboards/k2-[a-z-]+\.json|test/ready\.py))""",
    re.VERBOSE,
)


@pytest.mark.parametrize("values", VALUE_SETS)
def test_it_lints_strictly(values: str) -> None:
    done = run(tool("helm"), "lint", "--strict", CHART, "--values", VALUES / f"{values}.yaml")
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


def test_the_package_holds_no_stray_file(tmp_path: Path) -> None:
    done = run(tool("helm"), "package", CHART, "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    with tarfile.open(next(tmp_path.glob("k2-*.tgz"))) as package:
        names = package.getnames()
    assert [name for name in names if not EXPECTED.fullmatch(name)] == []
    assert {"k2/values.schema.json", "k2/README.md", "k2/files/dashboards/k2-overview.json"} <= set(names)


def test_its_version_is_the_projects() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart["version"] == chart["appVersion"] == project["version"]


def test_the_chart_that_upgrades_are_tested_from_is_another() -> None:
    """Else the test of upgrades is one of an upgrade from a chart to itself."""
    shown = [run(tool("helm"), "show", "all", chart).stdout for chart in (PREVIOUS_CHART, CHART)]
    assert all("kind: CustomResourceDefinition" in text for text in shown)
    rendered = [run(tool("helm"), "template", "k2", chart).stdout for chart in (PREVIOUS_CHART, CHART)]
    assert all("kind: Deployment" in text for text in rendered)
    assert (shown[0], rendered[0]) != (shown[1], rendered[1])


def test_every_value_is_documented() -> None:
    rows = re.findall(r"^\| (\S+) \| \w+ \| .* \| (.*) \|$", (CHART / "README.md").read_text(), re.MULTILINE)
    assert len(rows) > 40
    # A default that is a mapping is split into rows by helm-docs unless its parent is documented.
    assert [name for name, text in rows if not text.strip()] == []
