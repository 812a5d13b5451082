"""`Verdict`: one thing that is said of a run in plain words, with its evidence and the next step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from luthier.evaluate.plain import Plain

Gravity = Literal["fault", "advice", "good"]


@dataclass
class Verdict(Plain):
    """What one rule says.

    Attributes:
        name: The rule's, e.g. ``overfitting``; documented in docs/verdicts.md.
        gravity: ``fault``: the result should not be trusted or used as it is, or is far from what could be
            had; ``advice``: it could be better; ``good``: it was looked for and is as it should be.
        title: What it is, in a few words.
        evidence: The figures that say so, in a sentence or two.
        step: What to do next, in a sentence; empty where nothing is to be done.
    """

    name: str
    gravity: Gravity
    title: str
    evidence: str
    step: str = ""
