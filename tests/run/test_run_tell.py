from __future__ import annotations

from luthier.run import tell
from luthier.run.prepare import Prepared
from luthier.run.settings import Settings


def command(**given: object) -> str:
    settings = Settings.parse(given)
    return tell.command(Prepared(settings, None, None, {}, []))  # type: ignore[arg-type]


def test_the_command_repeats_the_run() -> None:
    given = {
        "data": "my data.csv", "model": ["a", "b"], "budget": "5m", "seed": 3, "drop_leaks": True, "out": "x",
        "columns": {"target": ["x", "y"]}, "baselines": ["probe"],
    }  # fmt: skip
    assert command(**given) == (
        "luthier tune 'my data.csv' --drop-leaks --model a --model b --budget 5m --seed 3 "
        "--column target=x --column target=y --baseline probe"
    )


def test_objectives_and_constraints_are_given_one_by_one() -> None:
    given = {"objectives": ["f1", "latency"], "constraints": ["latency < 20 ms"]}
    assert command(data="d.csv", **given) == (
        "luthier tune d.csv --objective f1 --objective latency --constraint 'latency < 20 ms'"
    )
    assert command(data="d.csv", slices=["source", "year"]).endswith("--slice source --slice year")


def test_what_no_command_line_can_say_is_left_to_python() -> None:
    assert command(budget="5m") == ""
    assert command(data="d.csv", space={"epochs": 3}) == ""


def test_versions_are_named() -> None:
    assert {"luthier", "torch", "transformers", "python"} <= set(tell.versions())
