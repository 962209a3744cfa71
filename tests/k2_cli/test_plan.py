"""`k2 plan`: what it prints is what it computed, and the examples in docs/sizing.md are its own words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from k2_cli.planning.figures import Assumed, Measured, read_prices
from k2_cli.planning.model import Load, plan
from support.cli import k2

ROOT = Path(__file__).parents[2]
SIZING = ROOT / "docs" / "sizing.md"
RATES = (10_000, 1_000_000, 10_000_000)


@pytest.mark.parametrize("rate", RATES)
def test_the_json_is_the_plan(rate: int) -> None:
    answer = k2("plan", "--rate", rate, "--retention-days", 30, "--regions", 2, "--recovery", "--json")
    assert answer.code == 0
    found = answer.document
    expected = plan(Load(rate, 30, regions=2, recovery=True), Measured(), Assumed(), read_prices(None))
    assert found["dollars_a_month"] == pytest.approx(expected.dollars)
    assert [(part["name"], part["count"]) for part in found["parts"]] == [
        (part.name, part.count) for part in expected.parts
    ]
    assert found["measured"] == Measured().model_dump()
    assert found["assumed"] == Assumed().model_dump()
    assert found["prices"]["as_of"] == read_prices(None).as_of


def test_every_figure_that_it_goes_by_is_printed() -> None:
    out = k2("plan", "--rate", 10_000, "--retention-days", 30).out
    for kind in (Measured, Assumed):
        for field in kind.model_fields.values():
            assert field.description is not None
            assert field.description in out
    assert "prices: 2026-06, us-east-1" in out


def test_the_worked_examples_are_what_it_says() -> None:
    """A table in docs/sizing.md with a column for each rate; the prices are those that K2 comes with."""
    rows = dict(re.findall(r"^\| ([^|]+?) \| (.+) \|$", SIZING.read_text(), flags=re.MULTILINE))
    plans = [plan(Load(rate, 30), Measured(), Assumed(), read_prices(None)) for rate in RATES]
    for name in [part.name for part in plans[1].parts]:
        counts = [{part.name: part for part in one.parts}[name] for one in plans]
        assert rows[name] == " | ".join(f"{part.count:,.0f}: {part.dollars:,.0f} $" for part in counts)
    assert rows["total a month"] == " | ".join(f"{one.dollars:,.0f} $" for one in plans)
    assert rows["a million records"] == " | ".join(f"{one.dollars_per_million:.4f} $" for one in plans)
    assert rows["pipelines"] == " | ".join(str(one.pipelines) for one in plans)


def test_advice_is_shown() -> None:
    out = k2("plan", "--rate", 1_000_000, "--retention-days", 30).out
    assert "advice: zones cost more than 3,000 $" in out


def test_own_prices(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    packaged = ROOT / "services" / "k2_cli" / "planning" / "prices.toml"
    mine.write_text(re.sub(r"^(\w+) = [\d.]+$", r"\1 = 0", packaged.read_text(), flags=re.MULTILINE))
    asked = ("plan", "--rate", 10_000, "--retention-days", 30, "--prices", mine, "--json")
    assert k2(*asked).document["dollars_a_month"] == 0
    mine.write_text("")
    answer = k2(*asked)
    assert answer.code == 2
    assert "mine.toml: as_of: found nothing" in answer.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rate", 0, "--retention-days", 30), "--rate"),
        (("--rate", "many", "--retention-days", 30), "--rate"),
        (("--rate", 10), "--retention-days"),
        (("--rate", 10, "--retention-days", 30, "--regions", 0), "--regions"),
    ],
)
def test_an_option_that_is_none_is_named(options: tuple[object, ...], said: str) -> None:
    answer = k2("plan", *options)
    assert answer.code == 2
    assert said in answer.err
