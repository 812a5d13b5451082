"""`Plugins`: what packages name under an entry point group. What there is of a kind, and what it must be able
to do, is said by the registry of that kind."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from luthier.errors import LuthierError, SettingError


class Plugins:
    """One kind of thing that other packages can add to; nothing is imported until it is loaded.

    Args:
        group: The entry point group, under which a package says ``name = "module:attribute"``.
        what: What one of them is called in messages, such as ``strategy``.
        many: And several.
        built_in: Name to ``module:attribute`` of our own. They are found also where the package runs from a
            source tree that was never installed, and no other package replaces them.
        words: Names that stand for something else; they are listed, and no package can take them.
    """

    def __init__(
        self, group: str, what: str, many: str, built_in: Mapping[str, str], words: Collection[str] = ()
    ) -> None:
        self.group = group
        self.what = what
        self.many = many
        self.built_in = dict(built_in)
        self.words = tuple(words)

    def names(self) -> list[str]:
        """All names: built-in ones first, then those of other packages in the order they are found in."""
        others = dict.fromkeys(point.name for point in self._others())
        return [*self.words, *self.built_in, *others]

    def target(self, name: str) -> str:
        """The ``module:attribute`` that a name stands for.

        Raises:
            SettingError: The name is unknown, lists those that are known; or two packages claim it.
        """
        return self.built_in[name] if name in self.built_in else self._point(name).value

    def load(self, name: str, base: type | None = None) -> Any:
        """What a name stands for.

        Args:
            name: One of `names`.
            base: The class that it must be a subclass of; None: anything goes.

        Raises:
            SettingError: As for `target`; or another package's cannot be imported, or is no such class.
            LuthierError: Importing it says itself what is missing, such as MissingExtra.
        """
        if name in self.built_in:
            module, _, attribute = self.built_in[name].partition(":")
            return getattr(import_module(module), attribute)
        point = self._point(name)
        said = f"The {self.what} {name!r} ({point.value})"
        try:
            found = point.load()
        except LuthierError:
            raise
        except Exception as error:
            raise SettingError(f"{said} cannot be imported: {error}", _missing(point)) from error
        if base is not None and not (isinstance(found, type) and issubclass(found, base)):
            raise SettingError(
                f"{said} is not a {base.__name__}.",
                f"What stands under {self.group!r} must be a subclass of {base.__module__}.{base.__name__}.",
            )
        return found

    def _others(self) -> Iterator[EntryPoint]:
        """What other packages name, but for what is ours."""
        return (
            point
            for point in entry_points(group=self.group)
            if point.name not in self.built_in and point.name not in self.words
        )

    def _point(self, name: str) -> EntryPoint:
        # A package that is found twice on the path names the same thing twice, which is no contradiction.
        claims = {point.value: point for point in self._others() if point.name == name}
        if len(claims) > 1:
            packages = " and ".join(f"{_package(point)} ({value})" for value, point in claims.items())
            raise SettingError(
                f"The {self.what} {name!r} is claimed by {len(claims)} packages: {packages}.",
                "Uninstall all but one of them.",
            )
        if claims:
            return next(iter(claims.values()))
        known = self.names()
        near = difflib.get_close_matches(name, known, n=1)
        meant = f"Did you mean {near[0]!r}? " if near else ""
        raise SettingError(
            f"The {self.what} {name!r} is unknown.", f"{meant}Known {self.many}: {', '.join(sorted(known))}."
        )


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module


def _missing(point: EntryPoint) -> str | None:
    """What to install, where a package says that what it names needs extras of its own."""
    if not point.extras:
        return None
    return f"It needs: pip install '{_package(point)}[{','.join(point.extras)}]'"
