"""Verdicts: what is to be made of a run, in plain words, from one small rule a cause.

`judge` asks all rules; each family of them is a file; what they are asked about is a `Case`.
"""

from luthier.evaluate.verdicts.case import Case, Fit, Found, Ignored
from luthier.evaluate.verdicts.rules import judge

__all__ = ["Case", "Fit", "Found", "Ignored", "judge"]
