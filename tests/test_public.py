"""The public names, and that reaching for the package costs nothing."""

from __future__ import annotations

import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import luthier

HEAVY = ["torch", "transformers", "pandas", "sklearn", "scipy", "sqlalchemy", "numpy", "peft", "datasets"]
LOADED = f"import sys; print(*[name for name in {HEAVY} if name in sys.modules])"


def test_the_public_names_are_exactly_these():
    assert luthier.__all__ == [
        "FineTunedClassifier", "FineTunedRegressor", "LuthierError", "Recipe", "Result", "Settings", "Space",
        "__version__", "deploy_model", "deployments", "export", "load", "promote", "resume", "rollback",
        "tune", "verify",
    ]  # fmt: skip


def test_every_public_name_is_there():
    for name in luthier.__all__:
        assert getattr(luthier, name) is not None
        assert name in dir(luthier)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'finetune'"):
        luthier.finetune  # noqa: B018


def test_the_version_is_the_packages():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert luthier.__version__ == project["version"]


@pytest.mark.parametrize(
    "code",
    [
        "import luthier",
        "import luthier; luthier.Settings.parse({'budget': '5m'}); luthier.tune",
        "import luthier.cli.main",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code):
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {LOADED}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize("arguments", [["--help"], ["tune", "--help"], ["--version"]])
def test_the_command_line_starts_within_half_a_second_of_cpu_time(arguments):
    seconds = min(_cpu_seconds([sys.executable, "-m", "luthier.cli.main", *arguments]) for _ in range(3))
    assert seconds < 0.5


def test_an_error_is_found_without_importing_anything_heavy():
    code = (
        "import sys\nfrom luthier.cli.main import main\n"
        "try:\n    main(['tune', 'x.csv', '--budget', 'soon'])\n"
        "except SystemExit as end:\n    assert end.code == 2\n"
        f"{LOADED}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [] and "'soon'" in done.stderr


def _cpu_seconds(command: list[str]) -> float:
    """User and system seconds of one finished child process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
