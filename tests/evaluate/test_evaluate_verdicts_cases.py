"""Real runs whose trouble is known. `make bench-verdicts` has all of them; these are the quick ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import verdicts
from luthier.cli.output import print_result
from luthier.evaluate.verdict import Verdict
from luthier.run.result import Result
from verdict_cases import CASES

QUICK = (
    "clean-several",
    "overfit-two",
    "underfit-frozen",
    "high-full",
    "low-full",
    "leak-near-rows",
    "shuffled-ratings",
    "rare-full",
)
SEED = 1


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    return verdicts.made_models(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("case", [case for case in CASES if case.name in QUICK], ids=lambda case: case.name)
def test_the_trouble_is_named_first_and_told_everywhere(
    case: verdicts.Known, models: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = verdicts.carry_out(case, SEED, models, tmp_path)
    assert outcome.right, outcome.sentences
    # What was said is in the files, too.
    result = Result.load(tmp_path / "run")
    first: Verdict = result.evaluation.verdicts[0]
    assert (first.gravity, first.name) == outcome.said[0]
    report, card = result.report.read_text(), (result.folder / "model" / "README.md").read_text()
    assert first.title.split(":")[0] in report
    assert (first.gravity == "good") or first.title[:20] in card
    print_result(result)
    mark = "+" if first.gravity == "good" else "!"
    assert f"{mark} {first.title}\n  {first.evidence}\n" in capsys.readouterr().out
    if case.name == "rare-full":
        sizes = result.evaluation.sizes
        assert sizes is not None and sizes.rows == sorted(sizes.rows) and sizes.seconds < 6


def test_every_case_has_a_truth_that_a_rule_can_say() -> None:
    from luthier.evaluate.verdicts.rules import EXPLAINS

    known = set(EXPLAINS) | {name for names in EXPLAINS.values() for name in names}
    assert {name for case in CASES for name in case.truth} <= known
    assert len([case for case in CASES if case.truth]) >= 20
    assert len([case for case in CASES if not case.truth]) >= 5
    assert len({case.name for case in CASES}) == len(CASES)
