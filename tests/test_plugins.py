from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path, PurePath

import pytest

from luthier import plugins
from luthier.errors import MissingExtra, SettingError
from luthier.plugins import Plugins

THINGS = Plugins("things", "thing", "things", {"path": "pathlib:Path"}, ("none",))


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """What is installed; tests add to it."""
    points: list[EntryPoint] = []
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == "things" else [])
    return points


def test_ours_come_first_and_are_not_replaced(found: list[EntryPoint]) -> None:
    found += [
        EntryPoint(name, "pathlib:PurePath", "things") for name in ("zero", "path", "none", "alpha", "zero")
    ]
    assert THINGS.names() == ["none", "path", "zero", "alpha"]
    assert THINGS.load("path", PurePath) is Path
    assert THINGS.load("alpha", PurePath) is PurePath and THINGS.target("alpha") == "pathlib:PurePath"
    with pytest.raises(SettingError, match="'none' is unknown"):
        THINGS.load("none")


def test_an_unknown_name_is_answered_with_the_known_ones(found: list[EntryPoint]) -> None:
    found.append(EntryPoint("pith", "pathlib:Path", "things"))
    with pytest.raises(SettingError, match="The thing 'patt' is unknown") as caught:
        THINGS.load("patt")
    assert caught.value.hint == "Did you mean 'path'? Known things: none, path, pith."
    with pytest.raises(SettingError) as caught:
        THINGS.target("quite else")
    assert caught.value.hint == "Known things: none, path, pith."


def test_a_name_that_two_packages_claim_is_neither_s(found: list[EntryPoint]) -> None:
    found += [EntryPoint("mine", "json:dumps", "things"), EntryPoint("mine", "pathlib:Path", "things")]
    with pytest.raises(SettingError, match=r"claimed by 2 packages: json \(json:dumps\) and pathlib"):
        THINGS.load("mine")
    assert THINGS.load("path") is Path
    # The same package twice on the path.
    found.pop()
    found.append(EntryPoint("mine", "json:dumps", "things"))
    assert THINGS.target("mine") == "json:dumps"


def test_what_does_not_load_says_why(found: list[EntryPoint]) -> None:
    found += [
        EntryPoint("gone", "no_such_module:Thing", "things"),
        EntryPoint("heavy", "no_such_module:Thing [gpu]", "things"),
        EntryPoint("odd", "json:dumps", "things"),
        EntryPoint("other", "pathlib:Path", "things"),
    ]
    with pytest.raises(SettingError, match=r"'gone' \(no_such_module:Thing\) cannot be imported: No module"):
        THINGS.load("gone")
    with pytest.raises(SettingError, match=r"pip install 'no_such_module\[gpu\]'"):
        THINGS.load("heavy")
    for name in ("odd", "other"):
        with pytest.raises(SettingError, match="is not a SettingError"):
            THINGS.load(name, SettingError)


def test_an_extra_that_is_missing_is_named_by_who_misses_it(
    found: list[EntryPoint], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "thing_that_misses.py").write_text(
        "from luthier.errors import MissingExtra\nraise MissingExtra('The thing', 'export')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found.append(EntryPoint("misses", "thing_that_misses:Thing", "things"))
    with pytest.raises(MissingExtra, match=r"luthier\[export\]"):
        THINGS.load("misses")
