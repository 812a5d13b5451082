"""What a person sees while a run goes on: lines in a pipe, a display on a terminal."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from luthier.cli.progress import LiveProgress, PlainProgress, showing
from luthier.trial import Report


def play(progress):
    """Two trials, the second worse and then failed, of a run of ten minutes."""
    progress.time(0.0, 600.0)
    progress.stage("searching")
    progress.note("the column 'label' is the target")
    progress.trial_started(1, "full, adamw 1e-4 [x]", 2)
    progress.step(0.5)
    progress.report(Report(1, 1, "running", 0.8, {"accuracy": 0.8}, 3.0), "accuracy")
    progress.report(Report(1, 2, "running", 0.75, {"accuracy": 0.75}, 3.0), "accuracy")
    progress.time(60.0, 600.0)
    progress.report(Report(1, 2, "completed", 0.8, {}, 0.0), "accuracy")
    progress.trial_started(2, "probe", 3)
    progress.report(Report(2, 0, "failed", math.nan, {}, 1.0, reason="out of memory"), "accuracy")
    progress.trial_started(3, "lora r8", 4)
    progress.step(0.25)


def test_a_pipe_gets_one_line_a_trial(capsys):
    with showing(quiet=False) as progress:
        assert isinstance(progress, PlainProgress)
        play(progress)
        progress.finished(None)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "searching" in lines[0] and "10m left" in lines[0]
    assert "note: the column 'label'" in lines[1]
    assert lines[2].startswith(
        "[1m, 9m left] trial 1: accuracy 0.800 (best so far), completed after 2 epochs, 6.0s"
    )
    assert lines[2].endswith("full, adamw 1e-4 [x]")
    assert "trial 2: accuracy -, failed (out of memory)" in lines[3]


def test_quiet_shows_nothing(capsys):
    with showing(quiet=True) as progress:
        assert progress is None
    assert capsys.readouterr().out == ""


def drawn(progress, console):
    with console.capture() as capture:
        console.print(progress.render())
    return capture.get()


def terminal(**more):
    return Console(file=io.StringIO(), force_terminal=True, width=100, markup=False, highlight=False, **more)


def test_a_terminal_gets_stage_budget_trial_best_and_the_last_trials():
    console = terminal(no_color=True)
    live = LiveProgress(console)
    play(live)
    shown = drawn(live, console)
    assert "searching" in shown and "9m left of 10m" in shown
    assert "trial 3" in shown and "epoch 1 of 4, lora r8" in shown
    assert "best so far" in shown and "accuracy 0.800, trial 1: full, adamw 1e-4 [x]" in shown
    assert "failed: out of memory" in shown


def test_several_trials_in_training_have_a_line_each():
    console = terminal(no_color=True)
    live = LiveProgress(console)
    for number in range(3, 10):
        live.trial_started(number, f"recipe-{number}.", 4)
    for number in (4, 3, 4):
        live.report(Report(number, 1 + (live.rows[number].epoch > 0), "running", 0.5), "accuracy")
    live.step(0.4)
    shown = drawn(live, console)
    assert "7 trials together" in shown
    assert "epoch 2 of 4, recipe-3." in shown and "epoch 3 of 4, recipe-4." in shown
    assert "epoch 1 of 4, recipe-7." in shown and "recipe-8." not in shown
    for number in range(4, 10):
        live.report(Report(number, 4, "completed", 0.6), "accuracy")
    live.step(0.5)
    assert "together" not in drawn(live, console)
    assert [row.number for row in live.training.values()] == [3]
    live.finished(None)
    assert "epoch" not in drawn(live, console).replace("epochs", "")


def test_a_fresh_display_and_a_narrow_one_can_be_drawn():
    console = terminal()
    live = LiveProgress(console)
    assert drawn(live, console).strip() == ""
    play(live)
    narrow = Console(file=io.StringIO(), force_terminal=True, width=40, markup=False)
    assert max(len(line) for line in drawn_plain(live, narrow)) <= 40


def drawn_plain(progress, console):
    from rich.text import Text

    return [Text.from_ansi(line).plain for line in drawn(progress, console).splitlines()]


def test_only_the_last_trials_are_shown():
    console = terminal(no_color=True)
    live = LiveProgress(console)
    for number in range(1, 30):
        live.trial_started(number, f"recipe-{number}.", 1)
        live.report(Report(number, 1, "completed", -number, {"mae": number}, 1.0), "mae")
    shown = drawn(live, console)
    assert "recipe-29." in shown and "recipe-25." in shown and "recipe-24." not in shown
    assert (
        "mae 1.000, trial 1" in shown
    )  # less is better: the score is its negative, the person sees the error


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_display_ends_with_the_run_however_it_ends(error):
    console = terminal()
    live = LiveProgress(console)
    with pytest.raises(error), live.display():
        live.stage("searching")
        raise error
    assert "\x1b[?25h" in console.file.getvalue()  # the cursor is shown again


def test_no_color_is_respected(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    console = terminal()
    live = LiveProgress(console)
    play(live)
    shown = drawn(live, console)
    assert not any(f"\x1b[{code}m" in shown for code in (31, 32, "1;31", "1;32"))
