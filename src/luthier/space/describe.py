"""A space as rows for people: what a setting may be, where good values are believed to lie, and when it
applies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from luthier.space.domain import Domain, Number

if TYPE_CHECKING:
    from luthier.space.space import Space


def describe(space: Space) -> list[dict[str, str]]:
    """One row an alternative, in order: ``setting``, ``values``, ``prior`` and ``when`` (empty where there is
    none).
    """
    return [
        {
            "setting": name,
            "values": _values(alternative.domain),
            "prior": _prior(alternative.domain),
            "when": _when(alternative.when),
        }
        for name, alternatives in space.settings.items()
        for alternative in alternatives
    ]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def _values(domain: Domain) -> str:
    if isinstance(domain, Number):
        scale = ", log scale" if domain.log else ""
        return f"{_text(domain.low)} to {_text(domain.high)}{scale}"
    return ", ".join(_text(value) for value in domain.values)


def _prior(domain: Domain) -> str:
    if isinstance(domain, Number):
        return "" if domain.prior is None else f"around {_text(domain.prior)}"
    if not domain.varies or len(set(domain.weights)) == 1:
        return ""
    return ", ".join(
        f"{_text(value)} {weight:.0%}" for value, weight in zip(domain.values, domain.weights, strict=True)
    )


def _when(when: Mapping[str, tuple[Any, ...]]) -> str:
    return " and ".join(
        f"{name} is {' or '.join(_text(value) for value in values)}" for name, values in when.items()
    )
