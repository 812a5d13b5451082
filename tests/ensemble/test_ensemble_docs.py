"""The way that the documentation writes out, held to the conformance suite's cheap checks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import ensemble_made as made
import pytest

from luthier.ensemble.conformance import (
    is_deterministic,
    says_something_of_every_row,
    takes_no_trial,
    takes_one_trial,
    weighs_to_one,
)

PAGE = Path(__file__).parents[2] / "docs" / "ensembles.md"


@pytest.mark.parametrize(
    "check",
    [is_deterministic, says_something_of_every_row, takes_no_trial, takes_one_trial, weighs_to_one],
    ids=lambda check: check.__name__,
)
def test_the_way_of_the_documentation_conforms(check: Any, tmp_path: Path) -> None:
    (code,) = (
        block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if "def " in block
    )
    scope: dict[str, Any] = {}
    exec(code, scope)
    check(scope["best_three"], lambda trials: made.context("text-classification", trials), tmp_path)
