from __future__ import annotations

import pytest

from k2_core.spec import KafkaSpec
from k2_core.symbols_report import NOT_ASKED, UNKNOWN, SymbolsWord
from k2_operator.signals import Answer, Log, Question, Secrets
from k2_operator.symbols import known

QUESTION = Question(
    "ns", KafkaSpec(bootstrap_servers="k:1"), (), {}, "read", "committed", {}, symbols_group="k2.symbols"
)
WRONG = SymbolsWord(known=False, reason=UNKNOWN, message="source binance: found BTCUSDX")
UNASKED = SymbolsWord(None, NOT_ASKED, "no answer")


def told(word: SymbolsWord | None) -> Answer:
    return Answer(QUESTION, 0.0, Secrets(), log=Log(symbols=word))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(None, [], id="no look yet"),
        pytest.param(Answer(QUESTION, 0.0, Secrets()), [], id="no Kafka"),
        pytest.param(told(None), [], id="nobody says anything"),
        pytest.param(told(SymbolsWord(known=True)), [("SymbolsKnown", True, "Known", "")], id="all are known"),
        pytest.param(told(WRONG), [("SymbolsKnown", False, UNKNOWN, WRONG.message)], id="one is not"),
        pytest.param(
            told(SymbolsWord(None, NOT_ASKED, "no answer")),
            [("SymbolsKnown", None, NOT_ASKED, "no answer")],
            id="unasked",
        ),
    ],
)
def test_what_ingests_say_is_the_condition(
    answer: Answer | None, expected: list[tuple[str, bool | None, str, str]]
) -> None:
    assert known(answer, stopping=False) == expected
    assert known(answer, stopping=True) == []
