"""`Space`: the distributions that recipes are drawn from, with conditions and priors. Plain data: no torch,
no search.
"""

from luthier.space.domain import SPREAD, UNIFORM_SHARE, Choice, Number
from luthier.space.listed import Listed
from luthier.space.parse import Alternative
from luthier.space.space import Space

__all__ = ["SPREAD", "UNIFORM_SHARE", "Alternative", "Choice", "Listed", "Number", "Space"]
