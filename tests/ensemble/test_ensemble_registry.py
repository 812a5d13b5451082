"""Names of ensembles: what they stand for, and the error for those that stand for nothing."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from luthier import plugins
from luthier.ensemble import registry
from luthier.errors import SettingError


def test_every_name_leads_somewhere() -> None:
    for name in registry.BUILT_IN:
        assert callable(registry.get(name))
        assert registry.resolve(name) == [name]
    assert registry.resolve("none") == []
    assert set(registry.resolve("auto")) <= set(registry.BUILT_IN)
    assert not any(registry.entry(name).trains for name in registry.resolve("auto"))


def test_an_unknown_name_is_answered_with_those_that_are_known() -> None:
    with pytest.raises(SettingError, match="'gredy' is unknown") as caught:
        registry.resolve("gredy")
    assert "Did you mean 'greedy'?" in str(caught.value.hint)
    assert all(name in str(caught.value.hint) for name in registry.names())


def test_another_package_s_way_is_found_and_cannot_replace_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("mine", "pathlib:Path", registry.GROUP),
        EntryPoint("greedy", "pathlib:Path", registry.GROUP),
        EntryPoint("broken", "no_such_module:way", registry.GROUP),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    assert registry.get("mine") is Path and registry.entry("mine").trains
    assert registry.get("greedy") is not Path
    with pytest.raises(SettingError, match="cannot be imported"):
        registry.get("broken")
