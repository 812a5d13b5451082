"""Trials that train together, until each one's end: who goes on, who leaves, and what is reported."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field

from luthier.engine.checkpoint import Checkpoints
from luthier.engine.kept import KeptOutputs
from luthier.engine.memory import is_out_of_memory
from luthier.engine.setting import Live, Setting, Stack
from luthier.engine.stacked import Unstackable
from luthier.engine.state import Diverged, EpochResult, Halted, Position, Unjudged
from luthier.engine.watchdog import Hung
from luthier.errors import LuthierError, RunError
from luthier.recipe import Recipe
from luthier.trial import Order, Report, Status


@dataclass
class Group:
    """Orders of one structure on their way.

    Attributes:
        setting: What they share.
        checkpoints: Where the best weights of each, and the state of paused ones, are kept.
        kept: Where their validation outputs of the best epoch are kept, or None.
        reached: Trial to the last epoch that was reported of it, so that none is reported twice.
        observe: Told a recipe, the size of its stack and the seconds of its epoch, for the cost model.
        too_large: Told the size of a stack that ran out of memory.
        note: Told what a person should know.
        halt: A reason ends all of them.
        on_step: Told the share that is done of the trial that has furthest to go.
        clock: When the time began that the next report is to account for.
    """

    setting: Setting
    checkpoints: Checkpoints
    kept: KeptOutputs | None
    reached: dict[int, int]
    observe: Callable[[Recipe, int, float], None]
    too_large: Callable[[int], None]
    note: Callable[[str], None]
    halt: Callable[[], str | None]
    on_step: Callable[[float], None] | None = None
    clock: float = field(default_factory=time.perf_counter)

    def run(self, orders: Sequence[Order]) -> Iterator[Report]:
        """Takes trials from where they stand to their orders' ends.

        Raises:
            RunError: The disk is full: what no other trial would survive either.
        """
        lives = []
        for order in orders:
            try:
                lives.append(self.setting.live(order))
            except Exception as error:  # Whatever happened to this trial, the others go on.
                yield Report(order.trial, self.reached.get(order.trial, 0), "failed", reason=explain(error))
        yield from self.go_on(lives)

    def go_on(self, lives: list[Live], position: Position | None = None) -> Iterator[Report]:
        """Takes trials to their orders' ends.

        Args:
            lives: They stand at the beginning of an epoch, or all at ``position`` within one.
            position: See `Training.position`.

        Raises:
            RunError: The disk is full: what no other trial would survive either.
        """
        while lives:
            try:
                stack = self.setting.stack(lives, position)
            except Unstackable as missing:
                self.note(f"{missing} These trials are trained one after the other.")
                for live in lives:
                    yield from self.go_on([live])
                return
            except Exception as error:  # Whatever happened to these trials, the others go on.
                yield from self._fail_or_halve(lives, position, error)
                return
            position = None
            try:
                lives = yield from self._train(stack, lives)
            except Halted as halted:
                yield from self._halted(stack, lives, str(halted))
                return
            except RunError:
                raise
            except Exception as error:
                position = self._leave(stack, lives) if _mendable(error) and len(lives) > 1 else None
                del stack
                yield from self._fail_or_halve(lives, position, error)
                return

    def _train(self, stack: Stack, lives: list[Live]) -> Generator[Report, None, list[Live]]:
        """Epochs until a trial leaves; returns those who go on, with their states taken out of the stack."""
        while True:
            results = stack.run_epoch(self.halt, self._progress(lives))
            staying: list[int] = []
            closing: list[tuple[int, Status, str]] = []
            for index, (live, result) in enumerate(zip(lives, results, strict=True)):
                if isinstance(result, Diverged):
                    reason = str(result) if isinstance(result, Unjudged) else f"diverged: {result}"
                    closing.append((index, "failed", reason))
                    continue
                self.observe(live.member.recipe, len(lives), result.seconds)
                yield from self._report(stack, index, live, result, len(lives))
                reason = self._out_of_patience(live, result.epoch)
                end = min(live.order.until, live.order.recipe.epochs)
                if reason or result.epoch >= end:
                    closing.append((index, "completed", reason))
                else:
                    staying.append(index)
            if not closing:
                continue
            for index in [*staying, *(index for index, status, _ in closing if status != "failed")]:
                self._take_out(stack, index, lives[index])
            for index, status, reason in closing:
                yield self._close(lives[index], status, reason)
            return [lives[index] for index in staying]

    def _report(
        self, stack: Stack, index: int, live: Live, result: EpochResult, size: int
    ) -> Iterator[Report]:
        """The epoch's report, unless it was given before; its weights are kept if they are the best."""
        state, task = live.member.state, self.setting.task
        score = task.score(result.metrics)
        tied = score == state.best_score and result.metrics["loss"] < state.best_metrics["loss"]
        if score > state.best_score or tied:
            state.best = stack.weights(index)
            state.said = None if self.kept is None else stack.said(index)
            state.best_score, state.best_epoch, state.best_metrics = score, result.epoch, result.metrics
        trial = live.order.trial
        if result.epoch > self.reached.get(trial, 0):
            self.reached[trial] = result.epoch
            seconds = self._seconds(size - index)
            yield Report(trial, result.epoch, "running", score, result.metrics, seconds, result.peak_memory)

    def _seconds(self, among: int) -> float:
        """A trial's share of the time since the last report: all shares together are the time that went
        by.
        """
        now = time.perf_counter()
        share = (now - self.clock) / among
        self.clock += share
        return share

    def _close(self, live: Live, status: Status, reason: str) -> Report:
        """The closing report, after the best weights are on disk; a trial that is to go further is kept."""
        order, state = live.order, live.member.state
        usable = status != "failed" and state.best_epoch > 0
        if usable:
            self.checkpoints.save(order.trial, self.setting.whole(state.best))
            if self.kept is not None and state.said is not None:
                self.kept.save(order.trial, state.said())
        state.said = None
        if status == "completed" and not reason and order.until < order.recipe.epochs:
            self.checkpoints.pause(order.trial, state)
        else:
            self.reached.pop(order.trial, None)
        return Report(
            order.trial,
            state.epoch,
            status,
            score=state.best_score if usable else math.nan,
            metrics=state.best_metrics if usable else {},
            seconds=self._seconds(1),
            reason=reason,
            best_epoch=state.best_epoch if usable else 0,
            trainable=live.trainable,
            parameters=live.parameters,
        )

    def _halted(self, stack: Stack, lives: list[Live], reason: str) -> Iterator[Report]:
        """Closes all; those halted before their first epoch ended are judged as they stand, to be of use."""
        judged = stack.evaluate() if any(live.member.state.best_epoch == 0 for live in lives) else []
        for index, live in enumerate(lives):
            if live.member.state.best_epoch == 0 and not isinstance(metrics := judged[index], Diverged):
                live.member.state.epoch += 1
                result = EpochResult(live.member.state.epoch, metrics, 0.0, 0)
                yield from self._report(stack, index, live, result, len(lives))
            yield self._close(live, "stopped", reason)

    def _fail_or_halve(
        self, lives: list[Live], position: Position | None, error: Exception
    ) -> Iterator[Report]:
        """A stack that is too large, or hangs, goes on as two; a trial that fails alone is a result."""
        if not (len(lives) > 1 and _mendable(error)):
            for live in lives:
                yield self._close(live, "failed", explain(error))
            return
        if is_out_of_memory(error):
            self.too_large(len(lives))
        half = len(lives) // 2
        self.note(f"{explain(error)}; {len(lives)} trials go on in two stacks.")
        for first, part in ((0, lives[:half]), (half, lives[half:])):
            yield from self.go_on(part, position and position.part(first, len(part)))

    def _leave(self, stack: Stack, lives: list[Live]) -> Position:
        """Takes every member out of a stack in the middle of an epoch."""
        for index, live in enumerate(lives):
            self._take_out(stack, index, live)
        return stack.position()

    @staticmethod
    def _take_out(stack: Stack, index: int, live: Live) -> None:
        live.member.state = stack.state(index)

    @staticmethod
    def _out_of_patience(live: Live, epoch: int) -> str:
        patience = live.member.recipe.patience
        waited = epoch - live.member.state.best_epoch
        if patience is None or waited < patience:
            return ""
        return f"no better validation score for {patience} epochs"

    def _progress(self, lives: list[Live]) -> Callable[[float], None] | None:
        if self.on_step is None:
            return None
        told = self.on_step
        longest = max(lives, key=lambda live: live.member.recipe.epochs - live.member.state.epoch)
        behind, total = longest.member.state.epoch, longest.member.recipe.epochs
        return lambda done: told((behind + done) / total)


def explain(error: BaseException) -> str:
    """A failed trial's reason in one line."""
    text = " ".join(str(error).split()) or "no message"
    if is_out_of_memory(error):
        return f"out of memory: {text[:200]}"
    if isinstance(error, Hung):
        return f"hung: {text}"
    if isinstance(error, LuthierError):
        return text
    return f"{type(error).__name__}: {text[:300]}"


def _mendable(error: BaseException) -> bool:
    """Whether a smaller stack may get on where this one failed."""
    return is_out_of_memory(error) or isinstance(error, Hung)
