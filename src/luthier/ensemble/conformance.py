"""What every way of making an ensemble must keep to, as checks that any implementation can run, also one from
another package.

With pytest::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_conforms(check, make, tmp_path):
        check(my_way, make, tmp_path)

where ``make(trials)`` gives a fresh `Context` of a small engine that has trained as many.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from luthier.ensemble import saved
from luthier.ensemble.base import Average, Candidate
from luthier.ensemble.ways import Context, Way
from luthier.errors import LuthierError

Make = Callable[[int], Context]
TRIALS = 4
CLOSE = 1e-4


def require(holds: bool, words: str) -> None:
    """Raises where something does not hold."""
    if not holds:
        raise AssertionError(words)


def is_deterministic(way: Way, make: Make, folder: Path) -> None:
    """The same context gives the same ensemble."""
    one, other = _made(way, make(TRIALS)), _made(way, make(TRIALS))
    require(
        [(part.recipe, part.seed) for part in one.parts]
        == [(part.recipe, part.seed) for part in other.parts],
        "The parts differ.",
    )
    require(one.combination.state() == other.combination.state(), "The combinations differ.")
    require(_close(one.validation, other.validation, 1e-6), "The validation outputs differ.")


def is_what_is_saved(way: Way, make: Make, folder: Path) -> None:
    """The saved directory says what the networks say, and names the task's labels in their order."""
    context = make(TRIALS)
    candidate = _made(way, context)
    engine, rows = context.engine, context.engine.inputs.frames["validation"]
    saved.save(engine, candidate, folder / "model", rows)
    loaded = saved.load(folder / "model")
    said = []
    for part in candidate.parts:
        network = engine.network(part.recipe, part.seed, trial=part.trial)
        source = engine.sources[part.recipe.model]
        said.append(
            engine.outputs(network, part.recipe, engine.inputs.split("validation", source, part.recipe))
        )
    expected = candidate.combination.outputs(context.task, said)
    actual = loaded.outputs(context.task, rows, engine.device, engine.inputs.root)
    require(_close(expected, actual, CLOSE), "What was saved says something else.")
    require(loaded.labels == context.task.label_names, "The labels are others, or in another order.")
    require(
        loaded.combination.state() == candidate.combination.state(),
        "The combination did not survive the file.",
    )


def never_reads_the_test_split(way: Way, make: Make, folder: Path) -> None:
    """A context has none; a way that asks for it fails here."""
    context = make(TRIALS)
    require("test" not in context.engine.inputs.frames, "The context has a test split.")
    _made(way, context)
    require("test" not in context.engine.inputs.frames, "The way has put a test split there.")


def weighs_to_one(way: Way, make: Make, folder: Path) -> None:
    """Weights of a mean are not negative and sum to one, and each part has one."""
    candidate = _made(way, make(TRIALS))
    if isinstance(candidate.combination, Average):
        weights = np.asarray(candidate.combination.weights)
        require(len(weights) == len(candidate.parts), "There are more or fewer weights than parts.")
        require(bool((weights > 0).all()), "A part has no weight.")
        require(abs(weights.sum() - 1) < 1e-9, f"The weights sum to {weights.sum()}.")


def says_something_of_every_row(way: Way, make: Make, folder: Path) -> None:
    """There is a finite output of each validation row, as wide as the task's, that scores at all."""
    context = make(TRIALS)
    candidate = _made(way, context)
    require(len(candidate.validation) == len(context.targets), "Rows are missing.")
    require(
        all(output.shape[-1] == context.task.num_outputs for output in candidate.validation),
        "Outputs have another width than the task's.",
    )
    require(all(np.isfinite(output).all() for output in candidate.validation), "An output is not finite.")


def keeps_to_its_parts(way: Way, make: Make, folder: Path) -> None:
    """There are no more networks than allowed, none twice, and the weights of all are there."""
    context = make(TRIALS)
    context.parts = 2
    candidate = _made(way, context)
    numbers = [part.trial for part in candidate.parts]
    require(len(numbers) <= 2 and len(set(numbers)) == len(numbers), f"The parts are {numbers}.")
    require(
        all(context.engine.checkpoints.has(number) for number in numbers), "A part's weights are missing."
    )


def takes_one_trial(way: Way, make: Make, folder: Path) -> None:
    """Of a search that left one trial it makes an ensemble or says why not."""
    said: list[str] = []
    context = make(1)
    context.say = said.append
    candidate = way(context)
    require(candidate is not None or bool(said), "Nothing was made, and nothing said.")
    if candidate is not None:
        require(len(candidate.validation) == len(context.targets), "Rows are missing.")


def takes_no_trial(way: Way, make: Make, folder: Path) -> None:
    """Without any trial it says why it makes none."""
    said: list[str] = []
    context = make(1)
    context.ranked, context.say = [], said.append
    try:
        candidate = way(context)
    except LuthierError:
        return
    require(candidate is None and bool(said), "Something was made of nothing, or nothing was said.")


CHECKS: list[Callable[[Way, Make, Path], None]] = [
    is_deterministic,
    is_what_is_saved,
    never_reads_the_test_split,
    weighs_to_one,
    says_something_of_every_row,
    keeps_to_its_parts,
    takes_one_trial,
    takes_no_trial,
]


def _made(way: Way, context: Context) -> Candidate:
    candidate = way(context)
    require(candidate is not None, "Nothing was made of several trials.")
    assert candidate is not None
    return candidate


def _close(one: list[np.ndarray], other: list[np.ndarray], limit: float) -> bool:
    return len(one) == len(other) and all(
        first.shape == second.shape
        and float(np.abs(first - second).max(initial=0.0))
        <= limit * max(1.0, float(np.abs(first).max(initial=0)))
        for first, second in zip(one, other, strict=True)
    )
