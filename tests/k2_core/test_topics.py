"""Names of topics, and the partitioner against Kafka's own test vectors."""

from __future__ import annotations

import pytest

from k2_core.errors import SpecError
from k2_core.topics import CONTROL_TOPIC, dead_letter_topic, murmur2, partition_of, topic_name
from k2_core.types import Symbol, TopicName


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
    ids=lambda value: str(value)[:12],
)
def test_murmur2_is_kafkas(text: str, expected: int) -> None:
    """Vectors of org.apache.kafka.common.utils.UtilsTest.testMurmur2; Java's int is signed."""
    assert murmur2(text.encode()) == expected & 0xFFFFFFFF


def test_murmur2_of_nothing_is_a_number_of_32_bits() -> None:
    assert 0 <= murmur2(b"") <= 0xFFFFFFFF


@pytest.mark.parametrize("text", ["21", "foobar", "abc"])
def test_partition_takes_the_positive_part(text: str) -> None:
    # Java: (murmur2 & 0x7fffffff) % partitions; not abs(), not the unsigned remainder.
    signed = {"21": -973932308, "foobar": -790332482, "abc": 479470107}[text]
    assert partition_of(Symbol(text), 50) == (signed & 0x7FFFFFFF) % 50


def test_symbols_spread_over_partitions() -> None:
    used = {partition_of(Symbol(f"SYM{number}USDT"), 50) for number in range(1_000)}
    assert used == set(range(50))


def test_one_partition_takes_all() -> None:
    assert partition_of(Symbol("BTCUSDT"), 1) == 0


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("market", "crypto", "trades", "binance"), "market.crypto.trades.binance"),
        (("t_1", "equities", "quotes", "asx-24"), "t_1.equities.quotes.asx-24"),
    ],
    ids=["design", "marks"],
)
def test_topic_name(parts: tuple[str, str, str, str], expected: str) -> None:
    assert topic_name(*parts) == expected


@pytest.mark.parametrize(
    "part", ["", "Market", "a.b", "-a", "a b", "ü", "a\n"], ids=["empty", "upper", "dot", "dash", "space", "ü", "line"]
)
@pytest.mark.parametrize("at", range(4), ids=["namespace", "class", "type", "exchange"])
def test_other_parts_are_refused(part: str, at: int) -> None:
    parts = ["market", "crypto", "trades", "binance"]
    parts[at] = part
    with pytest.raises(SpecError) as caught:
        topic_name(*parts)
    assert (caught.value.path, caught.value.found) == ("topic", repr(part))


def test_dead_letters_stand_beside_their_topic() -> None:
    assert dead_letter_topic(TopicName("market.crypto.trades.binance")) == "market.crypto.trades.binance.dlq"


def test_the_control_topic_is_outside_every_namespace() -> None:
    assert CONTROL_TOPIC == "k2.control"
