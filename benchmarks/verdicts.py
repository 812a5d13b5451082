"""Whether a run's verdicts are right: real fine-tunings with a known trouble, and some with none.

Each case of `verdict_cases` is run from data to report, and what its first verdict names is held against the
truth. `ROW` selects cases by name, `SEEDS` (such as ``3-5``) the seeds of their data and trainings.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import table
from verdict_cases import BASELINES, CASES, Known
from verdict_data import tiny, tiny_image

RIGHT = 0.9
SECONDS = 600


@dataclass(frozen=True)
class Outcome:
    """What was said of one run.

    Attributes:
        case: Its name.
        seed: Of data and training.
        truth: What should be said first; empty for a clean run.
        said: (gravity, name) of each verdict, in order.
        seconds: The run took.
        sentences: The verdicts in words.
    """

    case: str
    seed: int
    truth: tuple[str, ...]
    said: list[tuple[str, str]]
    seconds: float
    sentences: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """Whether the first verdict names the trouble; of a clean run, whether none is a fault."""
        if not self.truth:
            return all(gravity != "fault" for gravity, _ in self.said)
        return bool(self.said) and self.said[0][0] != "good" and self.said[0][1] in self.truth


def carry_out(case: Known, seed: int, models: Callable[[str], str], folder: Path) -> Outcome:
    """Runs a case and gives back what was said.

    Args:
        case: What is run.
        seed: Of its data, splits and training.
        models: The model to use by the case's name for it.
        folder: New or empty.
    """
    import luthier

    started = time.perf_counter()
    settings = {
        "budget": "5m", "trials": case.trials, "repeats": 1, "strategy": "random", "space": case.space,
        "baselines": BASELINES, "threads": 1, "seed": seed,
    } | case.options  # fmt: skip
    data = case.data(folder / "data", seed)
    data = str(data) if isinstance(data, Path) else data
    result = luthier.tune(data, model=models(case.model), out=folder / "run", **settings)
    verdicts = result.evaluation.verdicts
    return Outcome(
        case.name,
        seed,
        case.truth,
        [(verdict.gravity, verdict.name) for verdict in verdicts],
        time.perf_counter() - started,
        [f"{verdict.title}. {verdict.evidence}" for verdict in verdicts],
    )


def made_models(folder: Path) -> Callable[[str], str]:
    """Models by the names that cases use, each made once."""
    made: dict[str, str] = {}
    makers = {"tiny": tiny, "tiny-image": tiny_image}

    def get(name: str) -> str:
        if name in makers and name not in made:
            made[name] = str(makers[name](folder / name))
        return made.get(name, name)

    return get


def rows(outcomes: list[Outcome], seeds: list[int]) -> list[dict[str, object]]:
    """The benchmark's rows: a case each, and the two bars."""
    found = []
    for name in dict.fromkeys(one.case for one in outcomes):
        mine = [one for one in outcomes if one.case == name]
        share = sum(one.right for one in mine) / len(mine)
        said = "; ".join(
            dict.fromkeys(" ".join(n for g, n in one.said if g != "good") or "sound" for one in mine)
        )
        truth = " or ".join(mine[0].truth) or "no fault"
        found.append(table.row(name, share, "of seeds right", peer=f"truth: {truth}", spread=f"said: {said}"))
    faulty = [one for one in outcomes if one.truth]
    clean = [one for one in outcomes if not one.truth]
    over = f"seeds {', '.join(map(str, seeds))}"
    if faulty:
        share = sum(one.right for one in faulty) / len(faulty)
        bar = f"at least {RIGHT}"
        told = f"{len(faulty)} runs, {over}"
        found.append(table.row("all-faulty", share, "named first", spread=told, bar=bar, met=share >= RIGHT))
    if clean:
        wrong = sum(not one.right for one in clean)
        told = f"{len(clean)} runs, {over}"
        found.append(
            table.row("all-clean", wrong, "runs with a fault", spread=told, bar="none", met=wrong == 0)
        )
    return found


def main() -> None:
    """Runs the cases asked for, prints a line each, and keeps the rows."""
    wanted = os.environ.get("ROW", "").split()
    first, _, last = os.environ.get("SEEDS", "3").partition("-")
    seeds = list(range(int(first), int(last or first) + 1))
    chosen = [case for case in CASES if not wanted or any(word in case.name for word in wanted)]
    outcomes, started = [], time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        models = made_models(Path(scratch))
        for seed in seeds:
            for case in chosen:
                outcome = carry_out(case, seed, models, Path(scratch) / f"{case.name}-{seed}")
                outcomes.append(outcome)
                said = ", ".join(f"{gravity} {name}" for gravity, name in outcome.said) or "nothing"
                mark = "right" if outcome.right else "WRONG"
                print(f"{mark}  {case.name:22} {outcome.seconds:5.1f} s  {said}", flush=True)
                if not outcome.right or os.environ.get("SAY"):
                    print("".join(f"        {sentence}\n" for sentence in outcome.sentences), flush=True)
    taken = time.perf_counter() - started
    found = rows(outcomes, seeds)
    if not wanted:
        name, bar = "seconds-a-seed", f"under {SECONDS}"
        each = taken / len(seeds)
        found.append(table.row(name, each, "s", spread=f"{len(chosen)} runs", bar=bar, met=each < SECONDS))
        table.merge("verdicts", found)
    table.show(found)
    if not all(row["met"] in (None, True) for row in found):
        sys.exit("a bar was missed")


if __name__ == "__main__":
    main()
