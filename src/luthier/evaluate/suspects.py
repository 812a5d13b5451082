"""Suspects: rows whose label is likely a mistake."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Suspect:
    """One row whose label is likely wrong.

    Attributes:
        split: Where it is: ``train``, ``validation`` or ``test``.
        row: Row number in the source.
        input: The input as a person sees it, cut like that of a worst error.
        given: The label it has.
        suggested: The label the model would give it.
        quality: How likely the given label is right, 0 to 1; the least likely come first.
    """

    split: str
    row: int
    input: str
    given: str
    suggested: str
    quality: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Suspect:
        """What `to_json` wrote."""
        return cls(**values)


@dataclass
class Suspects:
    """Likely label mistakes.

    Attributes:
        rows: The likeliest, worst first.
        found: How many were found in all, by split.
        share: Their share of all rows looked at.
    """

    rows: list[Suspect]
    found: dict[str, int]
    share: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Suspects:
        """What `to_json` wrote."""
        return cls(**values | {"rows": [Suspect.from_json(row) for row in values["rows"]]})
