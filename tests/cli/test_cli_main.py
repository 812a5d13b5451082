"""How the command line ends: messages, exit codes, tracebacks, closed pipes."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest
from typer.testing import CliRunner

from luthier.cli.main import app, main
from luthier.errors import DataError, MissingExtra

runner = CliRunner()


@pytest.fixture
def listing(monkeypatch):
    """Stands in for `luthier.run.folder`; what `list_runs` does is set by the test."""
    module = types.ModuleType("luthier.run.folder")
    monkeypatch.setitem(sys.modules, "luthier.run.folder", module)

    def does(action):
        module.list_runs = action

    return does


def raises(error):
    def action(root):
        raise error

    return action


def test_a_users_error_is_a_message_and_a_hint(listing):
    listing(raises(DataError("The file 'a.csv' is empty.", "Give a file with rows.")))
    done = runner.invoke(app, ["runs"])
    assert done.exit_code == 2 and done.stdout == ""
    assert done.stderr == "error: The file 'a.csv' is empty.\n  Give a file with rows.\n"


def test_a_missing_extra_says_how_to_install_it(listing):
    listing(raises(MissingExtra("Reading from the hub", "hub")))
    done = runner.invoke(app, ["runs"])
    assert done.exit_code == 2 and "pip install 'luthier[hub]'" in done.stderr


def test_a_bug_is_one_line_that_says_how_to_see_more(listing):
    listing(raises(ZeroDivisionError("division\nby zero")))
    done = runner.invoke(app, ["runs"])
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert "ZeroDivisionError (division by zero)" in done.stderr and "--debug" in done.stderr


@pytest.mark.parametrize("error", [DataError("no rows"), ZeroDivisionError("x")])
@pytest.mark.parametrize("arguments", [["--debug", "runs"], ["runs", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(listing, capsys, error, arguments):
    listing(raises(error))
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == (2 if isinstance(error, DataError) else 1)
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_debug_after_two_dashes_is_an_argument(monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        main(["runs", "--", "--debug"])
    assert end.value.code == 2 and "Traceback" not in capsys.readouterr().err


def test_an_interrupt_ends_with_the_shells_code(listing):
    listing(raises(KeyboardInterrupt()))
    done = runner.invoke(app, ["runs"])
    assert done.exit_code == 130 and done.stderr == "interrupted\n"


def test_wrong_usage_ends_with_2():
    done = runner.invoke(app, ["tune"])
    assert done.exit_code == 2 and "No data was given" in done.stderr
    assert runner.invoke(app, ["dance"]).exit_code == 2


def test_help_lists_every_verb():
    done = runner.invoke(app, ["--help"])
    for verb in ("tune", "predict", "evaluate", "runs", "show", "resume", "models", "check", "schema"):
        assert f"\n  {verb} " in done.stdout
    assert "..." not in done.stdout.partition("Commands:")[2]


def test_a_closed_pipe_is_quiet():
    code = f"{sys.executable} -m luthier.cli.main schema | true; echo ${{PIPESTATUS[0]}}"
    slow = f"sleep 0; {code}"
    done = subprocess.run(["bash", "-c", slow], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.strip() in {"0", "141"}
