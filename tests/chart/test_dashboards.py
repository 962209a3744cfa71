"""Dashboards: Grafana's shape, figures that exist, and queries that a real Prometheus parses and runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from support import prometheus
from support.chart import DASHBOARDS
from support.exported import EXPORTED, metrics_in

ROWS: Final = ["flow", "lag", "level", "freshness", "commits", "gaps", "dead letters", "queries", "operator"]
CONTENT: Final[Mapping[str, Any]] = {path.stem: json.loads(path.read_text()) for path in DASHBOARDS}
PANELS: Final = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, dashboard in CONTENT.items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
]
_COLUMNS: Final = 24
_VARIABLES: Final = {
    "$__rate_interval": "1m",
    "$namespace": "team",
    "$pipeline": "crypto",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with prometheus.running(tmp_path_factory.mktemp("prometheus")) as client:
        yield client


def expressions(panel: Mapping[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def filled(expression: str) -> str:
    for variable, value in _VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


@pytest.mark.parametrize("panel", PANELS)
def test_prometheus_runs_its_queries(panel: Mapping[str, Any], server: httpx.Client) -> None:
    for expression in expressions(panel):
        answer = server.post("/api/v1/query", data={"query": filled(expression)}).json()
        assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
        assert answer.get("warnings") is None


def test_prometheus_refuses_what_is_wrong(server: httpx.Client) -> None:
    answer = server.post("/api/v1/query", data={"query": "sum by (pipeline) rate(k2_x[1m])"})
    assert answer.status_code == 400
    assert answer.json()["errorType"] == "bad_data"


@pytest.mark.parametrize("panel", PANELS)
def test_its_figures_exist(panel: Mapping[str, Any]) -> None:
    for expression in expressions(panel):
        used = metrics_in(filled(expression))
        assert used
        assert used - EXPORTED == set()


@pytest.mark.parametrize("panel", PANELS)
def test_it_has_a_unit_a_source_and_the_chosen_pipelines(panel: Mapping[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        figures = metrics_in(target["expr"])
        of_pipelines = {name for name in figures if not name.startswith("k2_operator_") or "_pipeline_" in name}
        assert target["expr"].count("$pipeline") >= len(of_pipelines)


@pytest.mark.parametrize("name", CONTENT)
def test_panels_lie_side_by_side(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in CONTENT[name]["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= _COLUMNS
        assert not taken & cells, panel["title"]
        taken |= cells
    identifiers = [panel["id"] for panel in CONTENT[name]["panels"]]
    assert len(set(identifiers)) == len(identifiers)


@pytest.mark.parametrize("name", CONTENT)
def test_it_is_a_dashboard_that_grafana_11_takes(name: str) -> None:
    dashboard = CONTENT[name]
    assert dashboard["uid"] == name
    assert dashboard["schemaVersion"] >= 39
    # A dashboard with a number belongs to one Grafana; one without can be provisioned anywhere.
    assert "id" not in dashboard
    variables = {variable["name"]: variable["type"] for variable in dashboard["templating"]["list"]}
    assert variables == {"datasource": "datasource", "namespace": "query", "pipeline": "query"}
    for variable in dashboard["templating"]["list"][1:]:
        assert metrics_in(variable["definition"]) <= EXPORTED


def test_the_overview_has_its_rows() -> None:
    panels = CONTENT["k2-overview"]["panels"]
    titles = " ".join(panel["title"] for panel in panels if panel["type"] == "row").lower()
    assert [row for row in ROWS if not re.search(rf"\b{row}\b", titles)] == []


def test_a_file_is_a_config_map(tmp_path: Path) -> None:
    # A ConfigMap may hold 1 MiB.
    assert [path.name for path in DASHBOARDS if path.stat().st_size > 900_000] == []
