"""`Store`: where a run, its trials and their epochs are kept, so that a process killed at any moment loses
and doubles nothing.

It records what it is told; when trials run and what they are is the study loop's affair. What that makes of a
trial's rows lives in `rows`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from luthier.errors import RunError
from luthier.recipe import Recipe
from luthier.study import rows
from luthier.study.database import WRITE, connect, plain_errors
from luthier.study.records import RunRecord, Unfinished, epochs_frame, run_record, trials_frame, unfinished
from luthier.study.tables import EpochRow, RunRow, TrialRow
from luthier.trial import Order, Report


class Store:
    """Runs, trials and epochs in a database.

    Each call is one transaction: when it returns, what it says is on disk; when it fails, or the process is
    killed, nothing of it is. Calls that take ``strategy_state`` save it in the same transaction, so the
    strategy always continues from exactly the reports that are stored. Not to be shared between threads; any
    number of processes may have the same database open.

    Args:
        location: Path of a SQLite file (made, with its folder, if absent), or an SQLAlchemy URL such as
            ``postgresql+psycopg://user@host/name``. An older database is upgraded.

    Raises:
        RunError: From here and from every method: the database cannot be read or written, is damaged, or is
            newer than this
            version; or there is no such run.
    """

    def __init__(self, location: str | Path) -> None:
        self._engine, self.location = connect(location)

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- runs ------------------------------------------------------------------------------------------------

    def create_run(
        self,
        *,
        name: str = "",
        settings: dict[str, Any] | None = None,
        seed: int = 0,
        budget: float | None = None,
        task: str = "",
        data_fingerprint: str = "",
        folder: str = "",
        versions: dict[str, Any] | None = None,
        strategy_state: dict[str, Any] | None = None,
    ) -> str:
        """Adds a run with status ``running``.

        Args:
            name: For people; need not be unique.
            settings: Everything the user set, JSON values.
            seed: Seed of the run.
            budget: Seconds it may take, or None.
            task: Name of the task.
            data_fingerprint: Tells whether a resumed run still has the same data.
            folder: Path of the run folder.
            versions: Versions of Luthier and of what it stands on.
            strategy_state: The strategy's state before its first order.

        Returns:
            The run's id, a UUID.
        """
        run, now = str(uuid.uuid4()), rows.now()
        with self._writing() as session:
            session.add(
                RunRow(
                    id=run,
                    name=name,
                    created=now,
                    updated=now,
                    status="running",
                    settings=settings or {},
                    seed=seed,
                    budget=budget,
                    spent=0.0,
                    task=task,
                    data_fingerprint=data_fingerprint,
                    folder=folder,
                    best_trial=None,
                    strategy_state=strategy_state,
                    versions=versions or {},
                )
            )
        return run

    def run(self, run: str) -> RunRecord:
        """The run with this id."""
        with self._reading() as session:
            return run_record(self._run_row(session, run))

    def runs(self) -> list[RunRecord]:
        """All runs, newest first."""
        with self._reading() as session:
            return [
                run_record(row)
                for row in session.scalars(select(RunRow).order_by(RunRow.created.desc(), RunRow.id))
            ]

    def save_progress(
        self,
        run: str,
        *,
        status: str | None = None,
        spent: float | None = None,
        strategy_state: dict[str, Any] | None = None,
    ) -> None:
        """Saves what is given of: the status (``running`` when resumed), seconds spent, and the strategy's
        state.
        """
        with self._writing() as session:
            row = self._run_row(session, run)
            row.status = row.status if status is None else status
            _progress(row, spent, strategy_state)

    def finish_run(
        self, run: str, status: str, best: int | None = None, *, spent: float | None = None
    ) -> None:
        """Closes a run as ``completed``, ``stopped`` or ``failed``, with its best trial's number."""
        with self._writing() as session:
            row = self._run_row(session, run)
            row.status, row.best_trial = status, best
            _progress(row, spent, None)

    # -- trials ----------------------------------------------------------------------------------------------

    def start_trial(self, run: str, order: Order, *, strategy_state: dict[str, Any] | None = None) -> None:
        """`start_trials` with one order."""
        self.start_trials(run, [order], strategy_state=strategy_state)

    def start_trials(
        self, run: str, orders: Sequence[Order], *, strategy_state: dict[str, Any] | None = None
    ) -> None:
        """Records that orders begin, and the strategy's state after it gave them, in one transaction.

        A completed trial whose order goes to a later epoch goes on: its epochs stay. Any other trial that was
        started before starts again: ``attempts`` rises by one, and what it reported since its latest order
        began is deleted.

        Args:
            run: The run's id.
            orders: What begins.
            strategy_state: The strategy's state after ``ask`` returned these orders.
        """
        with self._writing() as session:
            row = self._run_row(session, run)
            for order in orders:
                rows.start(session, run, order)
            _progress(row, None, strategy_state)

    def withdraw_trials(
        self, run: str, numbers: Sequence[int], *, strategy_state: dict[str, Any] | None = None
    ) -> None:
        """Takes back orders that were recorded but not begun, and saves the strategy's state with it.

        New trials are forgotten; those that were to go on are completed again, as they were.
        """
        with self._writing() as session:
            row = self._run_row(session, run)
            for number in numbers:
                trial = rows.trial_row(session, run, number)
                if trial.resumed_from == 0:
                    session.delete(trial)
                else:
                    trial.status, trial.until = "completed", trial.resumed_from
            _progress(row, None, strategy_state)

    def origin(self, run: str, number: int) -> Order | None:
        """The order that takes a trial's parent to where it stood when the trial began; None without one."""
        with self._reading() as session:
            row = rows.trial_row(session, run, number)
            if row.parent is None or row.parent_epoch is None:
                return None
            parent = rows.trial_row(session, run, row.parent)
            recipe = Recipe.parse(parent.recipe)
            return Order(row.parent, recipe, row.parent_epoch, parent.seed, parent.parent)

    def report(
        self,
        run: str,
        report: Report,
        *,
        spent: float | None = None,
        strategy_state: dict[str, Any] | None = None,
    ) -> None:
        """Records an epoch (``running``) or the end of a trial, with what follows from it, in one
        transaction.

        An epoch reported twice replaces the first. Until its closing report, which has the last word, a
        trial's score and best epoch are those of its best epoch so far (of equals the one with the lower
        loss). Its seconds are the sum over its epochs, plus those of the closing report.

        Args:
            run: The run's id.
            report: What happened.
            spent: Seconds the run has taken so far.
            strategy_state: The strategy's state after this report was told to it.
        """
        with self._writing() as session:
            row = self._run_row(session, run)
            trial = rows.trial_row(session, run, report.trial)
            rows.record(session, trial, report)
            _progress(row, spent, strategy_state)

    def finish_trial(
        self,
        run: str,
        report: Report,
        *,
        spent: float | None = None,
        strategy_state: dict[str, Any] | None = None,
    ) -> None:
        """`report` for a closing report; raises ValueError for a ``running`` one."""
        if report.status == "running":
            raise ValueError("a trial ends as completed, stopped or failed")
        self.report(run, report, spent=spent, strategy_state=strategy_state)

    def unfinished_trials(self, run: str) -> list[Unfinished]:
        """Trials that are ``running``, by number: after a crash, those to start again before anything new is
        asked for.
        """
        with self._reading() as session:
            self._run_row(session, run)
            running = select(TrialRow).where(TrialRow.run_id == run, TrialRow.status == "running")
            return [unfinished(row) for row in session.scalars(running.order_by(TrialRow.number))]

    # -- tables ----------------------------------------------------------------------------------------------

    def reached(self, run: str) -> dict[int, int]:
        """The last epoch of each trial that counts, by number: of one that is ``running``, the epoch that its
        latest order began at.
        """
        with self._reading() as session:
            self._run_row(session, run)
            found = session.scalars(select(TrialRow).where(TrialRow.run_id == run))
            return {row.number: rows.stands_at(row) for row in found}

    def recipes(self, run: str) -> dict[int, Recipe]:
        """The recipe of each trial, by number."""
        with self._reading() as session:
            self._run_row(session, run)
            found = session.execute(select(TrialRow.number, TrialRow.recipe).where(TrialRow.run_id == run))
            return {number: Recipe.parse(recipe) for number, recipe in found}

    def trials(self, run: str) -> pd.DataFrame:
        """One row a trial, by number: see `luthier.study.records.trials_frame` for the columns."""
        with self._reading() as session:
            self._run_row(session, run)
            ordered = select(TrialRow).where(TrialRow.run_id == run).order_by(TrialRow.number)
            return trials_frame(session.scalars(ordered).all())

    def epochs(self, run: str) -> pd.DataFrame:
        """One row an epoch, by trial and epoch: see `luthier.study.records.epochs_frame` for the columns."""
        with self._reading() as session:
            self._run_row(session, run)
            joined = select(TrialRow.number, EpochRow).join(TrialRow, EpochRow.trial_id == TrialRow.id)
            ordered = joined.where(TrialRow.run_id == run).order_by(TrialRow.number, EpochRow.epoch)
            return epochs_frame([(number, row) for number, row in session.execute(ordered)])

    # -- sessions --------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        with (
            plain_errors(self.location),
            self._engine.connect() as connection,
            _session(connection) as session,
        ):
            yield session

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with (
            plain_errors(self.location),
            self._engine.connect().execution_options(**WRITE) as connection,
            _session(connection) as session,
            session.begin(),
        ):
            yield session

    def _run_row(self, session: Session, run: str) -> RunRow:
        row = session.get(RunRow, run)
        if row is None:
            raise RunError(
                f"The store {self.location!r} has no run {run!r}.", "See the runs it has: luthier runs"
            )
        return row


def _session(connection: Connection) -> Session:
    return Session(connection, expire_on_commit=False, autoflush=False)


def _progress(row: RunRow, spent: float | None, strategy_state: dict[str, Any] | None) -> None:
    row.updated = rows.now()
    row.spent = row.spent if spent is None else spent
    if strategy_state is not None:
        row.strategy_state = strategy_state
