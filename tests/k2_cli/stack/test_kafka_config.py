"""k2_cli.stack.kafka_config."""

from __future__ import annotations

from pathlib import Path

import pytest

from k2_cli.stack.java import JavaRuntime
from k2_cli.stack.kafka_config import class_path, jvm_options, server_properties
from k2_core.errors import SetupError


def properties() -> dict[str, str]:
    return dict(line.split("=", 1) for line in server_properties(9092, 9093).splitlines())


def test_both_listeners_are_on_loopback_only() -> None:
    assert properties()["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert properties()["advertised.listeners"] == "PLAINTEXT://127.0.0.1:9092"


def test_every_replication_factor_is_one() -> None:
    factors = {name: value for name, value in properties().items() if name.endswith(("replication.factor", "min.isr"))}
    assert len(factors) == 6
    assert set(factors.values()) == {"1"}


def test_topics_are_made_on_purpose_only() -> None:
    assert properties()["auto.create.topics.enable"] == "false"


@pytest.mark.parametrize(("version", "knows"), [("23.0.1", False), ("24.0.1", True)], ids=["23", "24"])
def test_options_that_an_older_java_does_not_know_are_left_out(version: str, knows: bool) -> None:
    options = jvm_options(JavaRuntime(Path("java"), version), heap_mb=100)
    assert "-Xmx100m" in options
    assert ("--sun-misc-unsafe-memory-access=allow" in options) is knows


def test_the_class_path_holds_the_jars_in_order(tmp_path: Path) -> None:
    for name in ("b.jar", "a.jar", "start.aot"):
        (tmp_path / name).touch()
    assert class_path(tmp_path) == ["-cp", f"{tmp_path}/a.jar:{tmp_path}/b.jar"]


def test_a_folder_with_a_colon_is_refused() -> None:
    with pytest.raises(SetupError, match=r"found ':' in /a:b, .*K2_CACHE_DIR"):
        class_path(Path("/a:b"))
