"""What a server asks for answers: the contract between HTTP in front and one model, or several versions of
it, behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

State = Literal["loading", "ready", "draining", "failed"]


@dataclass(frozen=True)
class Answer:
    """What a model says of one input.

    Attributes:
        id: Unique; what a delayed label is matched by.
        value: As `luthier.tasks.base.Task.decode` gives it.
        version: Of the model that said it.
    """

    id: str
    value: dict[str, Any]
    version: str


class Refused(Exception):
    """One input, or a whole request, that gets no answer; what the client is told of it.

    Attributes:
        status: The HTTP status: 400, 413 or 422 for what is wrong with the input, 429 for a full queue, 503
            while loading or draining, 504 for a deadline that passed, 500 where computing failed.
        code: A short name of the reason, one of few: a label of the metrics.
        message: What was wrong and what is expected. Holds nothing of the input that is longer than a name.
        retry_after: Seconds after which asking again makes sense; None where it does not.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after


class Answers(Protocol):
    """Answers inputs: one loaded version of a model, or several among which requests are shared out.

    All but `close` are called on the event loop and return, or give way, at once.
    """

    name: str

    @property
    def state(self) -> State:
        """Whether it can be asked."""
        ...

    @property
    def metadata(self) -> dict[str, Any]:
        """What it is: ``name``, ``versions``, ``task``, ``input`` (text, tokens or image), ``labels``,
        ``backend``."""
        ...

    async def answer(
        self,
        inputs: Sequence[Any],
        *,
        request: str,
        deadline: float | None = None,
        version: str | None = None,
    ) -> list[Answer | Refused]:
        """An answer or a reason for each input, in their order; a bad input leaves its neighbours alone.

        Args:
            inputs: Texts, lists of words, or the bytes of image files.
            request: The request's id. Answers get ids from it, and a share of requests is drawn by it, so
                that a client that repeats an id meets the same version.
            deadline: `time.monotonic` seconds after which no answer is wanted.
            version: Asks for this version; None for whichever is in charge.

        Raises:
            Refused: The request as a whole: the queue is full, the server is loading or draining, or there is
                no such version.
        """
        ...

    async def close(self) -> None:
        """Refuses new inputs, answers the accepted ones, and lets go of the model."""
        ...
