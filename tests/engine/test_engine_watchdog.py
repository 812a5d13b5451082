from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from luthier.engine.watchdog import Hung, Watchdog

needs_signals = pytest.mark.skipif(not hasattr(signal, "SIGURG"), reason="Windows interrupts nothing")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """After each test the signal's handler is the one before it."""
    number = getattr(signal, "SIGURG", None)
    before = number and signal.getsignal(number)
    yield
    assert (number and signal.getsignal(number)) == before


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def in_thread(work: Callable[[], object]) -> BaseException | None:
    """What the work raised in a thread of its own."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    return raised[0] if raised else None


def outcome(work: Callable[[], object], threaded: bool) -> BaseException | None:
    if threaded:
        return in_thread(work)
    try:
        work()
    except Hung as error:
        return error
    return None


@needs_signals
def test_a_sleep_is_interrupted_at_once() -> None:
    started = time.perf_counter()
    expected = r"more than 0\.2 s, 20 times its prediction of 0\.01 s"
    with pytest.raises(Hung, match=expected), Watchdog(floor=0.05).guard(0.01):
        time.sleep(20)
    assert 0.2 <= time.perf_counter() - started < 10


@needs_signals
def test_a_wait_for_a_lock_is_interrupted() -> None:
    lock = threading.Lock()
    lock.acquire()
    expected = r"more than 0\.05 s, with a prediction of 1e-06 s"
    with pytest.raises(Hung, match=expected), Watchdog(floor=0.05).guard(1e-6):
        lock.acquire(timeout=20)


@pytest.mark.parametrize("threaded", [False, True])
def test_a_loop_is_ended(threaded: bool) -> None:
    def work() -> None:
        with Watchdog(floor=0.05).guard(0.0):
            spin(20)

    started = time.perf_counter()
    assert isinstance(outcome(work, threaded), Hung)
    assert time.perf_counter() - started < 10


def test_a_thread_that_sleeps_is_ended_when_it_wakes() -> None:
    def work() -> None:
        with Watchdog(floor=0.05).guard(0.0):
            time.sleep(0.3)
            spin(20)

    assert isinstance(in_thread(work), Hung)


@pytest.mark.parametrize("threaded", [False, True])
def test_no_false_alarm(threaded: bool) -> None:
    watchdog = Watchdog(floor=0.5)

    def work() -> None:
        for step in range(200):  # Together they take longer than any of them may.
            with watchdog.guard(1e-4 if step % 3 else None):
                spin(0.004)

    assert outcome(work, threaded) is None


@pytest.mark.parametrize("threaded", [False, True])
def test_no_prediction_is_no_limit(threaded: bool) -> None:
    def work() -> None:
        with Watchdog(floor=0.01).guard(None):
            spin(0.2)

    assert outcome(work, threaded) is None


@pytest.mark.parametrize("threaded", [False, True])
def test_nothing_is_raised_outside_of_a_guard(threaded: bool) -> None:
    """Steps that end about when their time is up are either ended or let go, but nothing comes later."""
    watchdog = Watchdog(factor=0.0, floor=0.002)
    ended = 0

    def work() -> None:
        nonlocal ended
        for step in range(300):
            try:
                with watchdog.guard(0.0):
                    spin(0.0015 + step % 20 * 5e-5)
            except Hung:
                ended += 1
            for _ in range(30):
                sum([1, 2])

    assert outcome(work, threaded) is None
    assert ended > 0


@pytest.mark.parametrize("threaded", [False, True])
def test_each_step_has_its_own_time(threaded: bool) -> None:
    watchdog = Watchdog(factor=1.0, floor=0.5)

    def steps() -> None:
        with watchdog.guard(None):
            for _ in range(7):
                watchdog.arm(0.01)
                spin(0.1)
            watchdog.disarm()
            spin(0.6)

    def hangs() -> None:
        with watchdog.guard(20.0):
            watchdog.arm(0.01)
            spin(20)

    assert outcome(steps, threaded) is None
    assert isinstance(outcome(hangs, threaded), Hung)


def test_arming_outside_of_a_guard_is_refused() -> None:
    watchdog = Watchdog()
    with watchdog.guard(1.0):
        pass
    with pytest.raises(RuntimeError, match="inside of a guard"):
        watchdog.arm(1.0)


@pytest.mark.parametrize("threaded", [False, True])
def test_outer_guards_go_on_after_inner_ones(threaded: bool) -> None:
    outer, inner = Watchdog(floor=0.2), Watchdog(floor=30.0)
    reached = []

    def work() -> None:
        with outer.guard(0.0):
            with inner.guard(0.0):
                spin(0.4)
                reached.append("inner")
            spin(20)
            reached.append("outer")

    error = outcome(work, threaded)
    assert isinstance(error, Hung)
    assert "0.2 s" in str(error)
    assert reached == ["inner"]


@pytest.mark.parametrize("threaded", [False, True])
def test_an_inner_guard_leaves_the_outer_one_its_time(threaded: bool) -> None:
    outer, inner = Watchdog(floor=20.0), Watchdog(floor=0.05)

    def work() -> None:
        with outer.guard(0.0):
            for _ in range(2):
                with pytest.raises(Hung, match=r"0\.05 s"), inner.guard(0.0):
                    spin(20)
            spin(0.1)

    assert outcome(work, threaded) is None


def test_threads_have_their_own_guards() -> None:
    short, long = Watchdog(floor=0.1), Watchdog(floor=20.0)

    def work() -> None:
        with short.guard(0.0):
            spin(20)

    with long.guard(0.0):
        assert isinstance(in_thread(work), Hung)
        spin(0.05)


def test_errors_of_the_step_pass_through() -> None:
    with pytest.raises(ZeroDivisionError), Watchdog().guard(1.0):
        _ = 1 / 0


@needs_signals
def test_signals_of_others_reach_their_handlers() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGURG, lambda number, frame: heard.append(number))
    try:
        with Watchdog().guard(1.0):
            signal.raise_signal(signal.SIGURG)
        signal.raise_signal(signal.SIGURG)
    finally:
        signal.signal(signal.SIGURG, before)
    assert heard == [signal.SIGURG] * 2


def test_what_does_not_end_is_shown_once(capfd: pytest.CaptureFixture[str]) -> None:
    def stubborn() -> None:
        with Watchdog(floor=0.1).guard(0.0):
            end = time.perf_counter() + 0.6
            while time.perf_counter() < end:
                try:
                    spin(0.6)
                except Hung:
                    continue

    stubborn()
    shown = capfd.readouterr().err
    assert shown.count("has not ended since") == 1
    assert "in stubborn" in shown


@needs_signals
def test_a_forked_process_watches_for_itself() -> None:
    program = """
import os, time
from luthier.engine.watchdog import Hung, Watchdog
watchdog = Watchdog(floor=0.1)
with watchdog.guard(0.0):
    pass
child = os.fork()
try:
    with watchdog.guard(0.0):
        time.sleep(20)
except Hung:
    code = 0
else:
    code = 1
if child == 0:
    os._exit(code)
raise SystemExit(code or os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


TRACED = """
import sys, threading
from luthier.engine.watchdog import Hung, Watchdog

def hang():
    try:
        with Watchdog(floor=0.05).guard(1e-6):
            while True:
                pass
    except Hung:
        print("hung")

thread = threading.Thread(target=hang)
thread.start()
thread.join()

def traced():
    print("called")

sys.settrace(lambda *_: None)
traced()
"""


def test_after_a_guard_has_fired_the_interpreter_goes_on_under_a_tracer() -> None:
    """As under a debugger, or in coverage: CPython 3.11 never began a call with an exception called off."""
    done = subprocess.run(
        [sys.executable, "-c", TRACED], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["hung", "called"]
