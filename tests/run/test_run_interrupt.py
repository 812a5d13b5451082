from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from luthier.run.interrupt import REASON, TERMINATED, Interrupt


def test_the_first_asks_and_the_second_raises() -> None:
    said: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    with Interrupt(said.append) as interrupt:
        assert interrupt.reason() is None
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.reason() == REASON
        assert len(said) == 1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


SCRIPT = """
import os, signal, sys
from luthier.run.interrupt import Interrupt

def heard(number, frame):
    print("own handler")

if sys.argv[1] == "own":
    signal.signal(signal.SIGTERM, heard)
for number in range(2):
    try:
        with Interrupt(print) as interrupt:
            os.kill(os.getpid(), signal.SIGTERM if number == 0 else signal.SIGINT)
            print("run", number, interrupt.reason())
            if sys.argv[1] == "failing":
                raise ValueError("it went wrong")
    except ValueError as error:
        print("caught", error)
print("end")
"""


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("default", TERMINATED, ["run 0 you stopped it"]),
        # What a script does about errors of a run must not keep it alive.
        ("failing", TERMINATED, ["run 0 you stopped it", "it went wrong"]),
        ("own", 0, ["run 0 you stopped it", "own handler", "run 1 you stopped it", "end"]),
    ],
)
def test_sigterm_ends_the_process_once_the_run_has_ended(how: str, code: int, said: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (code, "")
    assert [line for line in done.stdout.splitlines() if not line.startswith("Stopping")] == said


def test_elsewhere_than_the_main_thread_nothing_is_installed() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with Interrupt(lambda message: None):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
