from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rollout_fakes import Behaviour, FakeService, until

from luthier.deploy.serve import shadow as shadows
from luthier.deploy.serve.base import Answer, Refused
from luthier.deploy.serve.shadow import Shadow, agree


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"label": "a", "confidence": 0.9}, {"label": "a", "confidence": 0.2}, True),
        ({"label": "a"}, {"label": "b"}, False),
        ({"value": 1.0}, {"value": 1.0001}, True),
        ({"value": 1.0}, {"value": 1.01}, False),
        ({"labels": ["a", "b"]}, {"labels": ["a"]}, False),
        (
            {"entities": [{"type": "x", "start": 0, "end": 3, "confidence": 0.9}]},
            {"entities": [{"type": "x", "start": 0, "end": 3, "confidence": 0.5}]},
            True,
        ),
        (
            {"entities": [{"type": "x", "start": 0, "end": 3}]},
            {"entities": [{"type": "x", "start": 1, "end": 3}]},
            False,
        ),
    ],
)
def test_answers_agree_where_they_say_the_same(one: dict, other: dict, same: bool) -> None:
    assert agree(one, other) is same is agree(other, one)


def said(*labels: str, confidence: float = 0.9) -> list[Answer | Refused]:
    return [
        Answer(f"r-{n}", {"label": label, "confidence": confidence}, "1") for n, label in enumerate(labels)
    ]


def compare(behaviour: Behaviour, work: Any, busy: Any = lambda: False) -> Shadow:
    async def run() -> Shadow:
        service = FakeService("2", behaviour)
        await service.ready()
        shadow = Shadow(service, busy)
        await work(shadow)
        await shadow.close()
        return shadow

    return asyncio.run(run())


def test_what_is_compared_is_counted() -> None:
    async def work(shadow: Shadow) -> None:
        shadow.offer(["a", "b", "bad", "c"], "r", [*said("2", "x", "2"), Refused(422, "input", "")], 0.1)
        await until(lambda: shadow.comparison.compared == 2)

    found = compare(Behaviour(), work).comparison
    assert (found.agreed, found.failed, found.dropped) == (1, 1, 0)
    assert found.confidence == pytest.approx(0.8) and found.seconds == pytest.approx(0.2)


def test_it_waits_for_others_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadows, "PATIENCE", 0.2)
    others = [True]

    async def work(shadow: Shadow) -> None:
        shadow.offer(["a"], "r", said("2"), 0.1)
        await asyncio.sleep(0.05)
        assert not shadow.answers.answered
        await until(lambda: shadow.comparison.compared == 1)
        others[0] = False
        shadow.offer(["a"], "r", said("2"), 0.1)
        await until(lambda: shadow.comparison.compared == 2)

    compare(Behaviour(), work, busy=lambda: others[0])


def test_what_finds_no_room_is_dropped() -> None:
    async def work(shadow: Shadow) -> None:
        for _ in range(shadows.ROOM + 10):
            shadow.offer(["a"], "r", said("2"), 0.1)

    assert compare(Behaviour(seconds=1000.0), work).comparison.dropped == 10


def test_a_shadow_that_breaks_is_counted_and_asked_again() -> None:
    async def work(shadow: Shadow) -> None:
        good = shadow.answers.answer

        async def broken(*_: Any, **__: Any) -> list[Any]:
            raise ValueError("no")

        shadow.answers.answer = broken
        shadow.offer(["a", "b"], "r", said("2", "2"), 0.1)
        await until(lambda: shadow.comparison.failed == 2)
        shadow.answers.answer = good
        shadow.offer(["a"], "r", said("2"), 0.1)
        await until(lambda: shadow.comparison.agreed == 1)

    compare(Behaviour(), work)
