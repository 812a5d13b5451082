"""The store under kills and beside others: nothing is lost, doubled or half there."""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pandas as pd
import pytest
from study_reports import EPOCHS, end, epoch, order

from luthier.study.store import Store

TRIALS = 12


def work(path: Path, run: str) -> None:
    """A study in small: what it does next depends on nothing but the store."""
    with Store(path) as store:
        state = store.run(run).strategy_state
        again = [left.order for left in store.unfinished_trials(run)]
        while again or state["asked"] < TRIALS:
            if again:
                current = again.pop(0)
                state["told"].pop(str(current.trial), None)
            else:
                current = order(state["asked"])
                state["asked"] += 1
            store.start_trial(run, current, strategy_state=state)
            for at in range(1, EPOCHS + 1):
                state["told"][str(current.trial)] = at
                store.report(
                    run, epoch(current.trial, at, math.sin(current.trial + at)), strategy_state=state
                )
            store.report(run, end(current.trial, score=math.nan), strategy_state=state)
        store.finish_run(run, "completed")


def check_whole(path: Path, run: str) -> None:
    """The strategy was told exactly what is stored, and nothing is half there."""
    with Store(path) as store:
        state, trials, epochs = store.run(run).strategy_state, store.trials(run), store.epochs(run)
        assert trials["number"].tolist() == list(range(state["asked"]))
        counted = epochs.groupby("trial")["epoch"].max()
        assert {str(trial): at for trial, at in counted.items()} == state["told"]
        assert (trials.set_index("number")["epochs"].reindex(counted.index) == counted).all()
        assert (trials.loc[trials["status"] == "completed", "epochs"] == EPOCHS).all()
        assert (trials["status"] == "running").sum() <= 1


def wait_for(path: Path, run: str, epochs: int, process: BaseProcess) -> None:
    """Until so many epochs are stored: seconds would be other ones on a machine that is busy by turns."""
    with Store(path) as store:
        while process.is_alive() and len(store.epochs(run)) < epochs:
            time.sleep(0.0005)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_killed_at_random_moments_it_loses_and_doubles_nothing(tmp_path) -> None:
    tables: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    dice = random.Random(0)
    marks = sorted(dice.sample(range(TRIALS * EPOCHS * 9 // 10), 12))
    for name, kills in (("calm", []), ("killed", marks)):
        path = tmp_path / f"{name}.db"
        with Store(path) as store:
            run = store.create_run(strategy_state={"asked": 0, "told": {}})
        killed = 0
        while True:
            process = multiprocessing.get_context("fork").Process(target=work, args=(path, run))
            process.start()
            if killed < len(kills):
                wait_for(path, run, kills[killed], process)
                process.join(dice.uniform(0, 0.002))
                killed += process.is_alive()
                process.kill()
            process.join()
            check_whole(path, run)
            if process.exitcode == 0:
                break
        assert killed >= len(kills) // 4
        with Store(path) as store:
            assert store.run(run).status == "completed"
            tables.append(
                (store.trials(run).drop(columns=["attempts", "started", "ended"]), store.epochs(run))
            )
    for calm, disturbed in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(calm, disturbed)


def test_others_read_while_a_run_writes(tmp_path) -> None:
    path = tmp_path / "store.db"
    with Store(path) as store:
        run = store.create_run(strategy_state={"asked": 0, "told": {}})
    writer = threading.Thread(target=work, args=(path, run))
    writer.start()
    lengths = []
    with Store(path) as reader:
        while writer.is_alive():
            lengths.append(len(reader.trials(run)))
    writer.join()
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 2


def test_two_writers_wait_for_each_other(tmp_path) -> None:
    path = tmp_path / "store.db"
    with Store(path) as store:
        runs = [store.create_run(strategy_state={"asked": 0, "told": {}}) for _ in range(2)]
    writers = [threading.Thread(target=work, args=(path, run)) for run in runs]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    for run in runs:
        check_whole(path, run)
        with Store(path) as store:
            assert store.run(run).status == "completed"
