from __future__ import annotations

import yaml

from k2_core.spec import parse_pipeline
from k2_operator.rendering.objects import pipeline_document, workloads
from support.operator import one, rendered, secured, secured_body


def test_the_file_is_the_pipeline_that_the_user_wrote() -> None:
    text = one(rendered(), "ConfigMap", "crypto-pipeline")["data"]["pipeline.yaml"]
    written = parse_pipeline(secured_body())
    read = parse_pipeline(yaml.safe_load(text))
    assert read.spec == written.spec
    assert (read.metadata.name, read.metadata.namespace) == ("crypto", "markets")


def test_what_only_the_operator_does_is_not_in_it() -> None:
    assert pipeline_document(secured())["spec"].keys().isdisjoint({"suspend", "deletionPolicy"})


def test_accounts_have_no_token() -> None:
    accounts = [item for item in rendered() if item["kind"] == "ServiceAccount"]
    assert {item["metadata"]["name"] for item in accounts} == {"crypto-ingest", "crypto-sink", "crypto-query"}
    assert all(item["automountServiceAccountToken"] is False for item in accounts)


def test_each_workload_has_a_budget_of_its_name_that_blocks_no_drain() -> None:
    for name, *_ in workloads(secured()):
        budget = one(rendered(), "PodDisruptionBudget", name)["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"] == one(rendered(), "Deployment", name)["spec"]["selector"]


def test_the_service_leads_to_the_query_pods() -> None:
    spec = one(rendered(), "Service", "crypto-query")["spec"]
    [port] = spec["ports"]
    assert (port["port"], port["targetPort"]) == (80, "http")
    assert spec["selector"] == one(rendered(), "Deployment", "crypto-query")["spec"]["selector"]["matchLabels"]
