"""Distillation: one network of the best recipe, trained to say what an ensemble says.

The loss is the task's (`luthier.tasks.soft`); the training is the engine's.
"""

from __future__ import annotations

import numpy as np

from luthier.engine.lesson import Lesson
from luthier.ensemble.base import Average, Candidate
from luthier.ensemble.bench import Bench, Plan, Refused
from luthier.ensemble.ways import Context

# Temperatures, and shares of the teacher in the loss, in the order in which they are tried while time lasts.
SETTINGS = ((2.0, 0.5), (2.0, 0.9), (1.0, 0.9), (4.0, 0.9))
# Trials whose mean teaches where no other ensemble is given.
TEACHERS = 5


def distil(context: Context) -> Candidate | None:
    """One network that has learnt from the mean of the best trials; see `distilled`."""
    with Bench(context, "distil") as bench:
        kept = bench.kept()[: min(TEACHERS, context.parts)]
        if len(kept) < 2:
            raise Refused("the weights of fewer than two trials are kept: there is no ensemble to teach")
        parts = [context.part(trial) for trial in kept]
        combination = Average((1 / len(parts),) * len(parts))
        # What it says of validation is nobody's affair here.
        return _distilled(bench, Candidate(f"the best {len(parts)} trials", parts, combination, []))
    return None


def distilled(context: Context, candidate: Candidate) -> Candidate | None:
    """One network, as fast as the best trial, trained on an ensemble's answers and the true ones.

    It has the best trial's recipe and starts from the pre-trained weights. Its loss is the teacher's share of
    the divergence from what the ensemble says at a temperature, and the rest of the usual one (Hinton,
    Vinyals & Dean 2015, section 2). Some temperatures and shares are tried in one stack, as many as there is
    time for; the best on validation is given.

    Args:
        context: What may be used.
        candidate: The teacher; its parts' weights are kept.

    Returns:
        None, and it is said why, where time does not suffice or the training fails.
    """
    with Bench(context, "distil") as bench:
        return _distilled(bench, candidate)
    return None


def _distilled(bench: Bench, teacher: Candidate) -> Candidate | None:
    context = bench.context
    if not context.ranked:
        raise Refused("no trial came to its end")
    best = context.ranked[0]
    asking = sum(bench.judging_seconds(part.recipe, "train") for part in teacher.parts)
    if asking > context.left:
        raise Refused(f"asking {teacher.name} takes {asking:.0f} s, {max(0, context.left):.0f} s are left")
    said: list[list[np.ndarray]] = []
    for part in teacher.parts:
        if reason := bench.stop():
            raise Refused(f"{reason} while the teacher was asked")
        said.append(bench.answers(part, "train"))
    answers = teacher.combination.outputs(context.task, said)
    count = bench.affordable(best.recipe, len(SETTINGS))
    if not count:
        raise Refused("no time is left for a training of the best recipe")
    lessons = [Lesson(teacher=answers, temperature=t, mix=mix) for t, mix in SETTINGS[:count]]
    # One seed for all: they are to differ in what they learn from alone.
    trained = bench.train([Plan(best.recipe, bench.seed(0), lesson) for lesson in lessons])
    judged = [
        (part, lesson, bench.answers(part))
        for part, lesson in zip(trained, lessons, strict=True)
        if part is not None
    ]
    if not judged:
        raise Refused("no training came to its end")
    part, lesson, outputs = max(judged, key=lambda each: bench.judged(each[2]))
    return bench.candidate(
        [part], Average((1.0,)), outputs,
        f"taught by {teacher.name}, temperature {lesson.temperature:g}, the teacher's share {lesson.mix:g}",
    )  # fmt: skip
