from __future__ import annotations

import sys
import types

import pytest
from cli_fakes import FakeResult


@pytest.fixture
def api(monkeypatch, tmp_path):
    """Stands in for the run floor, and remembers what it was asked."""
    folder = tmp_path / "run 1"
    (folder / "model").mkdir(parents=True)
    (folder / "report.html").write_text("")
    result = FakeResult(folder)
    calls = types.SimpleNamespace(result=result, folder=folder, tuned=[], resumed=[], loaded=[])

    def tune(settings, *, progress=None, data=None, spent=0.0):
        calls.tuned.append((settings, progress, data))
        return result

    def resume(run, *, budget=None, progress=None):
        calls.resumed.append((run, budget))
        return result

    class Result:
        @staticmethod
        def load(run):
            calls.loaded.append(run)
            return result

    for name, values in {
        "tune": {"tune": tune, "resume": resume},
        "result": {"Result": Result},
        "inspect": {},
        "folder": {},
    }.items():
        module = types.ModuleType(f"luthier.run.{name}")
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, f"luthier.run.{name}", module)
        setattr(calls, f"{name}_module", module)
    return calls
