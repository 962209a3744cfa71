"""Alerts: each fires and stays silent as its promtool test says, has a runbook, and speaks of figures that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from support.chart import ALERT_FILES, ROOT, run, tool
from support.exported import EXPORTED, FAMILIES, metrics_in

CASES: Final = ROOT / "tests/chart/alerts"
RUNBOOKS: Final = ROOT / "docs/runbooks"
ALERTS: Final[dict[str, dict[str, Any]]] = {
    rule["alert"]: rule
    for path in ALERT_FILES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
}
SECTIONS: Final = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
KUBECTL_VERBS: Final = {"get", "describe", "logs", "top", "port-forward", "auth", "rollout", "patch"}


def cases(alert: str) -> Any:
    return yaml.safe_load((CASES / f"{alert}.yaml").read_text())


@pytest.mark.parametrize("alert", ALERTS)
def test_it_fires_and_stays_silent_as_promtool_says(alert: str) -> None:
    done = run(tool("promtool"), "test", "rules", CASES / f"{alert}.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_its_cases_hold_it_to_both_and_to_absent_series(alert: str) -> None:
    tests = cases(alert)["tests"]
    checks = [check for test in tests for check in test["alert_rule_test"]]
    assert {check["alertname"] for check in checks} == {alert}
    assert any(check["exp_alerts"] for check in checks)
    silent = [test for test in tests if not any(check["exp_alerts"] for check in test["alert_rule_test"])]
    used = metrics_in(ALERTS[alert]["expr"])
    given = [{re.split(r"[{ ]", series["series"])[0] for series in test["input_series"]} for test in silent]
    assert any(not used <= names for names in given), "no silent case leaves a series out"
    # Silent although everything is known: the threshold itself.
    assert len(silent) >= 2


@pytest.mark.parametrize("alert", ALERTS)
def test_it_says_who_how_bad_and_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    assert re.fullmatch(r"K2[A-Z][A-Za-z]+", alert)
    assert rule["labels"]["severity"] in {"critical", "warning"}
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert "expected" in notes["description"]
    assert "$value" in notes["description"] or alert == "K2OperatorGone"
    assert "$labels" in notes["summary"] or alert == "K2OperatorNotReconciling"
    assert notes["runbook_url"] == f"docs/runbooks/{alert}.md"


@pytest.mark.parametrize("alert", ALERTS)
def test_it_uses_figures_that_exist(alert: str) -> None:
    used = metrics_in(ALERTS[alert]["expr"])
    assert used
    assert used - EXPORTED == set()


@pytest.mark.parametrize("alert", ALERTS)
def test_its_runbook_says_what_it_means_and_what_to_do(alert: str) -> None:
    text = (RUNBOOKS / f"{alert}.md").read_text()
    assert text.startswith(f"# {alert}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert f"[{alert}]({alert}.md)" in (RUNBOOKS / "README.md").read_text()


@pytest.mark.parametrize("alert", ALERTS)
def test_its_runbooks_commands_and_figures_exist(alert: str) -> None:
    text = (RUNBOOKS / f"{alert}.md").read_text()
    commands = re.findall(r"^\$ (\S+)(?: -n \S+)? (\S+)", text, re.MULTILINE)
    assert commands
    for program, verb in commands:
        assert program in {"kubectl", "helm", "curl"}
        assert program != "kubectl" or verb in KUBECTL_VERBS, verb
    named = set(re.findall(r"\bk2_[a-z_]+\b", text)) - {"k2_operator"}
    assert named - FAMILIES == set()


@pytest.mark.parametrize("folder", [CASES, RUNBOOKS], ids=["cases", "runbooks"])
def test_nothing_is_there_for_an_alert_that_is_not(folder: Path) -> None:
    assert {path.stem for path in folder.iterdir()} - {"README"} == set(ALERTS)


def test_the_rules_are_sound() -> None:
    done = run(tool("promtool"), "check", "rules", *ALERT_FILES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout or len(ALERT_FILES) > 1
