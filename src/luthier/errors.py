"""The errors a user can cause or mend; everything else is a bug and keeps its traceback."""

from __future__ import annotations


class LuthierError(Exception):
    """One clear sentence for the user: the value, what was expected, and what to do.

    The command line prints ``str(error)`` and exits with ``exit_code``; no traceback unless ``--debug``.

    Args:
        message: What is wrong, naming the offending value and what was expected.
        hint: What to do about it; printed on a line of its own.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class SettingError(LuthierError, ValueError):
    """A setting that is unknown, out of range or in conflict with another.

    A ValueError too, as Python and scikit-learn call a bad value; so is `DataError`.
    """


class DataError(LuthierError, ValueError):
    """Data that cannot be read or cannot be learnt from."""


class ModelError(LuthierError):
    """A model that cannot be loaded safely or does not fit the task."""


class RunError(LuthierError):
    """A run folder that is missing, unfinished, damaged or cannot be written."""


class Refused(LuthierError):
    """A check was not passed, such as that an export repeats its model."""

    exit_code = 1


class MissingExtra(LuthierError):
    """An optional dependency is needed: names the extra that brings it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs an optional dependency.", f"Install it with: pip install 'luthier[{extra}]'"
        )
