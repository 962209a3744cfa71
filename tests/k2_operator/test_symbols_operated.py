"""What ingests say of their symbols, told by the operator, against a real API server and Kafka. No pods run here."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from k2_core.config import ServiceSettings
from k2_core.kafka import KafkaAdmin
from k2_core.service_report import ServiceReport
from k2_core.symbols_report import KNOWN, UNKNOWN
from k2_core.types import Offset, Partition, TopicName
from support.operated import Operated

pytestmark = pytest.mark.kafka

WRONG = "source binance: the exchange does not know BTCUSDX; all others flow. Correct spec.ingestion[0].symbols"


def say(operated: Operated, reason: str, problem: str | None) -> None:
    """Write what an ingest writes; there is none here."""
    admin = KafkaAdmin(ServiceSettings(kafka_bootstrap_servers=operated.bootstrap_servers))
    text = ServiceReport("binance", datetime.now(UTC), reason, problem).dump()
    signals = {(TopicName(operated.topic), Partition(0)): (Offset(0), text)}
    admin.write_group_signals(f"k2.{operated.topics_prefix}.crypto.symbols", signals).result(20)


def ready(operated: Operated) -> bool:
    operated.tend("ingest", "sink", "query")
    return bool(operated.phase() == "Running")


def pods(operated: Operated) -> str:
    return operated.kubectl("get", "pods,deployments", "-o", "jsonpath={.items[*].metadata.resourceVersion}")


def test_an_unknown_symbol_is_a_condition_and_touches_nothing(operated: Operated) -> None:
    operated.start()
    operated.apply()
    operated.wait(lambda: ready(operated), "phase Running")
    assert not operated.condition("SymbolsKnown")
    before = pods(operated)

    say(operated, UNKNOWN, WRONG)
    operated.wait(lambda: operated.condition("SymbolsKnown").get("status") == "False", "the condition")
    found = operated.condition("SymbolsKnown")
    assert (found["reason"], found["message"]) == ("UnknownSymbol", WRONG)
    assert operated.condition("Ready")["status"] == "True"
    assert operated.phase() == "Running"
    labels = f'{{namespace="{operated.namespace}",pipeline="crypto",type="SymbolsKnown"}}'
    assert operated.metrics()[f"k2_operator_pipeline_condition{labels}"] == 0

    say(operated, UNKNOWN, f"{WRONG}!")  # other words for it are no news
    operated.wait(lambda: operated.condition("SymbolsKnown").get("message") == f"{WRONG}!", "the other words")
    say(operated, KNOWN, None)
    operated.wait(lambda: operated.condition("SymbolsKnown").get("status") == "True", "the condition to be True")
    assert pods(operated) == before

    template = '{range .items[?(@.reason=="UnknownSymbol")]}{.type} {.message}{"\\n"}{end}'
    told = operated.kubectl("get", "events", "-o", f"jsonpath={template}").splitlines()
    assert told == [f"Warning SymbolsKnown: {WRONG}"]
