"""What a run ships, written to disk: the winner, or the ensemble that was chosen with the winner beside it;
each with its temperature. Judging it lives in `prove`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from luthier.engine.engine import Engine
from luthier.ensemble import saved as ensembles
from luthier.ensemble.base import Part
from luthier.ensemble.saved import EnsembleForm
from luthier.evaluate.calibration import fit_temperature
from luthier.models.forms import SavedForm
from luthier.models.heads import last_linear
from luthier.run.combine import Tried
from luthier.run.folder import RunFolder
from luthier.study.study import Finished

# Validation rows for which a saved ensemble must say what its networks said.
REPEATED = 64


@dataclass(frozen=True)
class Shipped:
    """What was written to the run's ``model/``.

    Attributes:
        form: How it is to be read.
        validation: What it says of the validation rows.
    """

    form: SavedForm | EnsembleForm
    validation: list[np.ndarray]


def ship(
    engine: Engine, folder: RunFolder, best: Finished, tried: Tried | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Shipped:  # fmt: skip
    """Writes what is shipped as a directory that loads without Luthier, or one of such directories.

    Args:
        engine: Has the trained weights.
        folder: Where to: ``model``, and ``single`` for the winner where an ensemble is shipped.
        best: The winner.
        tried: The ensembles, of which one may have been chosen.
        say: Told where no temperature can be part of a model.

    Raises:
        RunError: It cannot be written, or does not repeat what the networks say.
    """
    winner, chosen = Part(best.recipe, best.seed, best.trial), None if tried is None else tried.chosen
    shutil.rmtree(folder.single, ignore_errors=True)
    if chosen is None:
        return _network(engine, winner, folder, validation_outputs(engine, best), say)
    _network(engine, winner, folder, validation_outputs(engine, best), say, beside=True)
    candidate = chosen.candidate
    if len(candidate.parts) == 1:
        return _network(engine, candidate.parts[0], folder, candidate.validation, say)
    temperature = _temperature(engine, candidate.validation)
    rows = engine.inputs.frames["validation"].head(REPEATED)
    form = ensembles.save(engine, candidate, folder.model, rows, temperature=temperature)
    return Shipped(form, _divided(candidate.validation, temperature))


def validation_outputs(engine: Engine, best: Finished) -> list[np.ndarray]:
    """What a trial says of the validation rows: as it was kept, or by a pass over them."""
    kept = None if engine.kept is None or best.trial < 0 else engine.kept.load(best.trial)
    if kept is not None and len(kept) == len(engine.inputs.targets("validation")):
        return kept
    network = engine.network(best.recipe, best.seed, trial=best.trial)
    split = engine.inputs.split("validation", engine.sources[best.recipe.model], best.recipe)
    return engine.outputs(network, best.recipe, split)


def _network(
    engine: Engine, part: Part, folder: RunFolder, outputs: list[np.ndarray], say: Callable[[str], None], *,
    beside: bool = False,
) -> Shipped:  # fmt: skip
    """One network with its temperature."""
    temperature = _temperature(engine, outputs)
    if temperature != 1.0 and last_linear(engine.network(part.recipe, part.seed).head) is None:
        say(
            f"The head ends in no linear layer, so that the temperature {temperature:.2f} cannot be part "
            "of the saved model: its probabilities are left as they are."
        )
        temperature = 1.0
    place = folder.single if beside else folder.model
    form = ensembles.write(engine, part, place, temperature=temperature)
    return Shipped(form, _divided(outputs, temperature))


def _temperature(engine: Engine, outputs: Sequence[np.ndarray]) -> float:
    return fit_temperature(engine.task, outputs, engine.inputs.targets("validation"))


def _divided(outputs: Sequence[np.ndarray], temperature: float) -> list[np.ndarray]:
    return [row / temperature for row in outputs]
