"""All that is told of one look: what the command line, the page and JSON are made from. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from luthier.monitor.history import Alarm
from luthier.monitor.judgement import Judgement
from luthier.monitor.looking import Looked
from luthier.monitor.webhook import finite


@dataclass(frozen=True)
class Example:
    """An observation that is the least like the reference.

    Attributes:
        id: Its id.
        answer: What it was answered.
        input: The input, where it was kept; of a picture its size in bytes.
    """

    id: str
    answer: str
    input: str = ""


@dataclass(frozen=True)
class Share:
    """How often a class is answered.

    Attributes:
        name: The class.
        tested: Share of the test rows.
        now: Share of the requests in the window.
    """

    name: str
    tested: float
    now: float


@dataclass(frozen=True)
class Account:
    """All that is told of one look.

    Attributes:
        name: What was named.
        looked: The look.
        about: Of the reference: ``n`` test rows, ``metric``, ``metrics``.
        course: Judgements of successive windows, oldest first; empty where it was not asked for.
        alarms: That began before, the latest first.
        examples: Behind an alarm or a change.
        shares: How often each class is answered; empty where an input has no one class.
        window: Requests in a window.
        role: What the version is to do in its deployment, such as ``full`` or ``canary:10%``; empty of a run.
    """

    name: str
    looked: Looked
    about: dict[str, Any]
    course: list[Judgement] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    shares: list[Share] = field(default_factory=list)
    window: int = 1000
    role: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON values, the course left out; null for what is not finite."""
        examples = [vars(one) for one in self.examples]
        found: dict[str, Any] = finite(
            {
                "name": self.name,
                "role": self.role or None,
                **self.looked.to_json(),
                "examples": examples,
                "tested": self.about,
            }
        )
        return found
