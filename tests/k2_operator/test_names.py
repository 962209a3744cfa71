from __future__ import annotations

from k2_operator.names import DEPLOYMENT, LONGEST_CRON_JOB_NAME, SERVICE, Names, labels, selector


def test_paths_of_kinds() -> None:
    assert DEPLOYMENT.path == "/apis/apps/v1"
    assert SERVICE.path == "/api/v1"
    assert (DEPLOYMENT.group, SERVICE.group) == ("apps", "")


def test_the_children() -> None:
    names = Names("crypto")
    assert names.workload("ingest", "binance") == "crypto-ingest-binance"
    assert names.workload("sink", None) == names.sink == "crypto-sink"
    assert names.workload("query", None) == names.query == "crypto-query"
    assert names.config_map == "crypto-pipeline"
    assert names.account("ingest") == "crypto-ingest"


def test_selectors_are_among_the_labels() -> None:
    assert selector("p", "ingest", "s").items() <= labels("p", "ingest", "s").items()
    assert "k2.dev/source" not in labels("p", "sink")
    assert "app.kubernetes.io/component" not in labels("p")


def test_a_cron_jobs_name_leaves_room_for_its_jobs() -> None:
    assert Names("crypto").maintenance == Names("crypto").account("maintenance") == "crypto-maintenance"
    longest = [Names(f"{'p' * 49}{last}").maintenance for last in "ab"]
    assert {len(name) for name in longest} == {LONGEST_CRON_JOB_NAME}
    assert len(set(longest)) == 2
