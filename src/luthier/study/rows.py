"""What orders and reports make of a trial's rows, inside a transaction of the caller's. When there is one is
`store`'s affair."""

from __future__ import annotations

import datetime as dt
import math

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from luthier.errors import RunError
from luthier.study.tables import EpochRow, TrialRow
from luthier.trial import Order, Report


def now() -> dt.datetime:
    """The time, as the database keeps it."""
    return dt.datetime.now(dt.UTC)


def trial_row(session: Session, run: str, number: int) -> TrialRow:
    """The row of a trial. Raises RunError where there is none."""
    row = session.scalar(select(TrialRow).where(TrialRow.run_id == run, TrialRow.number == number))
    if row is None:
        raise RunError(f"Run {run!r} has no trial {number}.")
    return row


def stands_at(trial: TrialRow) -> int:
    """The epoch that a trial is at, or was before its latest order if that is being carried out."""
    return trial.resumed_from if trial.status == "running" else trial.epochs


def start(session: Session, run: str, order: Order) -> None:
    """Has a trial begin, go on, or begin again, as `Store.start_trials` says."""
    trial = session.scalar(select(TrialRow).where(TrialRow.run_id == run, TrialRow.number == order.trial))
    if trial is None:
        parent = None if order.parent is None else trial_row(session, run, order.parent)
        trial = TrialRow(
            run_id=run,
            number=order.trial,
            resumed_from=0,
            parent=order.parent,
            parent_epoch=None if parent is None else stands_at(parent),
            repeats=order.repeats,
            attempts=0,
            started=now(),
            epochs=0,
            seconds=0.0,
            peak_memory=0,
        )
        session.add(trial)
    elif trial.status == "completed" and order.until > trial.until:
        trial.resumed_from, trial.attempts = trial.epochs, 0
    else:
        session.execute(
            delete(EpochRow).where(EpochRow.trial_id == trial.id, EpochRow.epoch > trial.resumed_from)
        )
    trial.recipe, trial.seed, trial.until = order.recipe.model_dump(), order.seed, order.until
    trial.status, trial.reason, trial.ended = "running", "", None
    trial.attempts += 1
    session.flush()
    _summarise(session, trial)


def record(session: Session, trial: TrialRow, report: Report) -> None:
    """Adds an epoch to a trial, or ends it, with what follows from it."""
    if report.status == "running":
        _add_epoch(session, trial, report)
    _summarise(session, trial)
    if report.status != "running":
        _close(session, trial, report)
    trial.peak_memory = max(trial.peak_memory, report.peak_memory)


def _add_epoch(session: Session, trial: TrialRow, report: Report) -> None:
    """One that was reported before is replaced."""
    session.execute(delete(EpochRow).where(EpochRow.trial_id == trial.id, EpochRow.epoch == report.epoch))
    metrics = {name: float(value) for name, value in report.metrics.items()}
    session.add(
        EpochRow(
            trial_id=trial.id,
            epoch=report.epoch,
            score=float(report.score),
            metrics=metrics,
            seconds=float(report.seconds),
            peak_memory=int(report.peak_memory),
        )
    )
    session.flush()


def _summarise(session: Session, trial: TrialRow) -> None:
    """Works the trial's sums out from its epochs, so that they cannot drift from them."""
    rows = session.scalars(
        select(EpochRow).where(EpochRow.trial_id == trial.id).order_by(EpochRow.epoch)
    ).all()
    scored = [row for row in rows if not math.isnan(row.score)]
    best = max(scored, key=lambda row: (row.score, -_loss(row)), default=None)
    trial.score, trial.best_epoch = (math.nan, None) if best is None else (best.score, best.epoch)
    trial.loss = math.nan if best is None else _loss(best)
    trial.epochs = rows[-1].epoch if rows else 0
    trial.seconds = sum(row.seconds for row in rows)
    trial.peak_memory = max((row.peak_memory for row in rows), default=0)


def _loss(row: EpochRow) -> float:
    loss: float = row.metrics.get("loss", math.nan)
    return loss


def _close(session: Session, trial: TrialRow, report: Report) -> None:
    """Takes over what a closing report says, where it says something."""
    trial.status, trial.reason, trial.ended = report.status, report.reason, now()
    trial.seconds += report.seconds
    trial.trainable_parameters = report.trainable or trial.trainable_parameters
    trial.total_parameters = report.parameters or trial.total_parameters
    trial.score = trial.score if math.isnan(report.score) else float(report.score)
    if report.best_epoch:
        best = session.scalar(
            select(EpochRow).where(EpochRow.trial_id == trial.id, EpochRow.epoch == report.best_epoch)
        )
        trial.best_epoch, trial.loss = report.best_epoch, math.nan if best is None else _loss(best)
