"""Lengths of time as people write them: ``15m`` to seconds and back. No clock is read here."""

from __future__ import annotations

import math
import re

from luthier.errors import SettingError

_NUMBER = r"\d+(?:\.\d+)?|\.\d+"
_PARTS = re.compile(
    rf"\s*(?:(?P<d>{_NUMBER})\s*d)?\s*(?:(?P<h>{_NUMBER})\s*h)?\s*(?:(?P<m>{_NUMBER})\s*m(?:in)?)?"
    rf"\s*(?:(?P<s>{_NUMBER})\s*s(?:ec)?)?\s*",
    re.IGNORECASE,
)
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_EXPECTED = "Write it as 15m, 90s, 1h30m or 2h, or as a number of seconds."


def parse_budget(value: str | float) -> float:
    """Seconds in a length of time.

    Args:
        value: ``15m``, ``90s``, ``1h30m``, ``2h``, ``1d``, or a number of seconds.

    Returns:
        Seconds, finite and above zero.

    Raises:
        SettingError: The value is not a length of time, or not above zero.
    """
    seconds = _seconds(value)
    if seconds is None:
        raise SettingError(f"The budget {value!r} is not a length of time.", _EXPECTED)
    if not (math.isfinite(seconds) and seconds > 0):
        raise SettingError(f"The budget {value!r} must be finite and above zero.", _EXPECTED)
    return seconds


def new_budget(value: str | float, previous: float) -> float:
    """A budget that may add to an earlier one: ``+10m`` adds to ``previous`` seconds, ``10m`` replaces it.

    Raises:
        SettingError: As `parse_budget`.
    """
    if isinstance(value, str) and value.strip().startswith("+"):
        return previous + parse_budget(value.strip()[1:])
    return parse_budget(value)


def format_duration(seconds: float) -> str:
    """A length of time for people, to the second: ``45s``, ``4m05s``, ``1h30m``; `parse_budget` reads it."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes:02d}m{left:02d}s" if left else f"{hours}h{minutes:02d}m"
    if minutes:
        return f"{minutes}m{left:02d}s" if left else f"{minutes}m"
    return f"{left}s"


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if not isinstance(value, str):
        return float(value)
    text = value.strip()
    if re.fullmatch(rf"[+-]?(?:{_NUMBER})", text):
        return float(text)
    match = _PARTS.fullmatch(text)
    if match is None or not any(match.groupdict().values()):
        return None
    return sum(float(number) * _SECONDS[unit] for unit, number in match.groupdict().items() if number)
