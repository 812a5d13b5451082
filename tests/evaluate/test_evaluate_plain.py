from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from luthier.evaluate.plain import Plain


@dataclass
class Part:
    share: float
    name: str = ""


@dataclass
class Whole(Plain):
    value: float
    interval: tuple[float, float]
    way: Literal["folds", "holdouts"] = "folds"
    known: float | None = None
    ends: tuple[float, float] | None = None
    by_trial: dict[int, float] = field(default_factory=dict)
    pairs: list[tuple[int, float]] = field(default_factory=list)
    places: list[float] | list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    one: Part | None = None


NUMBERS = st.one_of(st.floats(allow_infinity=False, width=32), st.just(math.nan))
PARTS = st.builds(Part, NUMBERS, st.text(max_size=3))
WHOLES = st.builds(
    Whole,
    NUMBERS,
    st.tuples(NUMBERS, NUMBERS),
    st.sampled_from(["folds", "holdouts"]),
    st.none() | st.floats(-1, 1),
    st.none() | st.tuples(NUMBERS, NUMBERS),
    st.dictionaries(st.integers(-5, 5), NUMBERS, max_size=3),
    st.lists(st.tuples(st.integers(), NUMBERS), max_size=3),
    st.lists(st.floats(-1, 1), max_size=2) | st.lists(st.text(max_size=2), max_size=2),
    st.lists(PARTS, max_size=2),
    st.none() | PARTS,
)


@given(WHOLES)
@example(Whole(math.nan, (0.0, math.nan), parts=[Part(math.nan, "NaN")]))
@settings(deadline=None)
def test_what_went_through_json_is_the_same_again(whole: Whole) -> None:
    told = json.loads(json.dumps(whole.to_json()), parse_constant=lambda name: None)
    again = Whole.from_json(told)
    # Not by ==, for which no NaN is another.
    assert repr(again) == repr(whole)
    assert [type(part) for part in again.parts] == [Part] * len(whole.parts)


def test_what_an_older_version_left_out_takes_its_default() -> None:
    again = Whole.from_json({"value": None, "interval": [0, None]})
    assert math.isnan(again.value) and again.interval[0] == 0.0 and math.isnan(again.interval[1])
    assert (again.way, again.known, again.parts) == ("folds", None, [])


def test_numbers_of_numpy_become_python_s() -> None:
    again = Whole.from_json({"value": np.float32(0.5), "interval": (np.float64(0), 1), "by_trial": {"3": 1}})
    assert type(again.value) is float and again.by_trial == {3: 1.0} and type(again.by_trial[3]) is float
