"""Progress of a run on standard output: one calm display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luthier.cli.output import console, decimal
from luthier.run.duration import format_duration

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType

    from luthier.run.progress import Progress
    from luthier.trial import Report

SHOWN = 5  # trials in training, and trials in the table of the last ones
BAR = 32  # characters


@contextmanager
def showing(quiet: bool) -> Iterator[Progress | None]:
    """A progress display for the time of a run: None if quiet, live on a terminal, otherwise plain lines."""
    if quiet:
        yield None
        return
    screen = console()
    if not screen.is_terminal or screen.is_dumb_terminal:
        yield PlainProgress()
        return
    live = LiveProgress(screen)
    with live.display():
        yield live


@dataclass
class Row:
    """One trial as it is shown; ``value`` is its best so far, of the metric as people know it."""

    number: int
    describe: str
    epochs: int
    epoch: int = 0
    score: float = math.nan
    value: float = math.nan
    seconds: float = 0.0
    status: str = "running"
    reason: str = ""


class Board:
    """What is known of a run so far: its stage, its time, its trials. Shows nothing by itself."""

    def __init__(self) -> None:
        self.stage_name = ""
        self.metric = ""
        self.rows: dict[int, Row] = {}
        self.best: Row | None = None
        self.training: dict[int, Row] = {}
        self.done = 0.0
        self._spent = 0.0
        self._budget = math.nan
        self._told = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds spent, running on between two calls of `time`."""
        return self._spent if math.isnan(self._budget) else self._spent + time.monotonic() - self._told

    @property
    def budget(self) -> float:
        """The budget in seconds; NaN until it is told."""
        return self._budget

    @property
    def left(self) -> str:
        """Time left, for people."""
        return "" if math.isnan(self._budget) else f"{format_duration(self._budget - self.spent)} left"

    def stage(self, name: str) -> None:
        """A new stage begins."""
        self.stage_name = name

    def note(self, message: str) -> None:
        """Something worth knowing happened."""

    def trial_started(self, number: int, describe: str, epochs: int) -> None:
        """A trial begins, or goes on to more epochs; others may be in training with it."""
        row = self.rows.setdefault(number, Row(number, describe, epochs))
        row.epochs, row.status = epochs, "running"
        self.training[number] = row
        self.done = 0.0

    def step(self, done: float) -> None:
        """Share that is done of what is in training, in 0..1."""
        self.done = min(1.0, max(0.0, done))

    def report(self, report: Report, metric: str) -> None:
        """An epoch of a trial, or its end."""
        self.metric = metric
        row = self.rows.setdefault(report.trial, Row(report.trial, "", report.epoch))
        row.epoch, row.status, row.reason = report.epoch, report.status, report.reason
        row.seconds += report.seconds
        if not math.isnan(report.score) and not row.score >= report.score:
            row.score = report.score
            row.value = report.metrics.get(metric, report.score)
            if self.best is None or not self.best.score >= row.score:
                self.best = row
        if report.status != "running":
            self.training.pop(report.trial, None)

    def time(self, spent: float, budget: float) -> None:
        """Seconds spent, of the whole budget."""
        self._spent, self._budget, self._told = spent, budget, time.monotonic()

    def finished(self, result: Any) -> None:
        """The run is over; its result is printed elsewhere."""
        self.stage_name = "done"
        self.training.clear()


class PlainProgress(Board):
    """Lines for logs and pipes: one for each stage, note and finished trial, with the time left."""

    def stage(self, name: str) -> None:
        """One line."""
        super().stage(name)
        self._say(name)

    def note(self, message: str) -> None:
        """One line."""
        self._say(f"note: {message}")

    def report(self, report: Report, metric: str) -> None:
        """One line when a trial ends; epochs are not shown."""
        super().report(report, metric)
        if report.status == "running":
            return
        row = self.rows[report.trial]
        best = " (best so far)" if self.best is row else ""
        reason = f" ({row.reason})" if row.reason else ""
        self._say(
            f"trial {row.number}: {metric} {decimal(row.value)}{best}, {row.status}{reason} "
            f"after {row.epoch} epochs, {row.seconds:.1f}s; {row.describe}"
        )

    def _say(self, message: str) -> None:
        left = f", {self.left}" if self.left else ""
        print(f"[{format_duration(self.spent)}{left}] {message}", file=sys.stdout, flush=True)


class LiveProgress(Board):
    """A display that stays in its place: stage, budget, trials in training, best so far, the last few."""

    def __init__(self, screen: Console) -> None:
        super().__init__()
        self._screen = screen

    @contextmanager
    def display(self) -> Iterator[None]:
        """Shows the board until the block ends, whichever way it ends; the lines of `note` stay."""
        from rich.live import Live

        with Live(get_renderable=self.render, console=self._screen, refresh_per_second=4, transient=True):
            yield

    def note(self, message: str) -> None:
        """One line."""
        self._screen.print(f"note: {message}")

    def render(self) -> Group:
        """The board as it is now."""
        from rich.console import Group
        from rich.text import Text

        parts: list[RenderableType] = [Text(self.stage_name, style="bold")]
        if not math.isnan(self.budget):
            parts.append(
                self._line(
                    "budget", self.spent / self.budget, f"{self.left} of {format_duration(self.budget)}"
                )
            )
        parts += self._in_training()
        if self.best is not None:
            found = (
                f"{self.metric} {decimal(self.best.value)}, trial {self.best.number}: {self.best.describe}"
            )
            parts.append(
                Text.assemble(("best so far  ", "dim"), (found, "green"), no_wrap=True, overflow="ellipsis")
            )
        recent = [row for row in self.rows.values() if row.status != "running"][-SHOWN:]
        if recent:
            parts.append(self._table(recent))
        return Group(*parts)

    def _in_training(self) -> list[RenderableType]:
        """A line for a trial alone; of several, one for all of them and one for each of the first few."""
        rows = list(self.training.values())
        lines = []
        if len(rows) > 1:
            lines.append(self._line("training", self.done, f"{len(rows)} trials together"))
        for row in rows[:SHOWN]:
            share = self.done if len(rows) == 1 else row.epoch / max(1, row.epochs)
            epoch = f"epoch {min(row.epoch + 1, row.epochs)} of {row.epochs}"
            lines.append(self._line(f"trial {row.number}", share, f"{epoch}, {row.describe}"))
        return lines

    def _line(self, name: str, share: float, said: str) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        line = Table.grid(padding=(0, 1))
        line.add_column(width=11, style="dim", no_wrap=True)
        line.add_column(width=BAR)
        line.add_column(no_wrap=True, overflow="ellipsis")
        line.add_row(name, ProgressBar(total=1.0, completed=min(1.0, share), width=BAR), said)
        return line

    def _table(self, rows: list[Row]) -> RenderableType:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for header in ("trial", self.metric, "epochs", "seconds"):
            table.add_column(header, justify="right", no_wrap=True)
        table.add_column("recipe", no_wrap=True, overflow="ellipsis", ratio=1)
        for row in rows:
            said = f"{row.status}: {row.reason}" if row.status == "failed" else row.describe
            style = "green" if row is self.best else ("red" if row.status == "failed" else None)
            table.add_row(
                str(row.number), decimal(row.value), str(row.epoch), f"{row.seconds:.1f}", said, style=style
            )
        return table
