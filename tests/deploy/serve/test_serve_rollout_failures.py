"""Versions that do not load, fail or are slow: what runs stays, or the rollout goes back by itself."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from rollout_fakes import FULL, World, ask, during, until

from luthier.deploy.serve.base import Refused
from luthier.deploy.serve.probation import Limits
from luthier.deploy.serve.rollout import Rollout
from luthier.deploy.state import Role
from luthier.deploy.versions import Deployment
from luthier.errors import MissingExtra, ModelError, RunError, SettingError


def history(world: World, action: str) -> list[int]:
    return [event.version for event in world.deployment.state.history if event.action == action]


# -- candidates that are no good -----------------------------------------------------------------------------


def test_a_candidate_that_does_not_load_never_displaces_what_runs(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.behaviours[2].broken = ModelError("its weights are damaged")

    async def work(rollout: Rollout) -> None:
        world.deployment.promote(2, FULL)
        await until(lambda: world.deployment.state.versions[2].failed)
        state = world.deployment.state
        assert (state.full, state.standing(2)) == (1, "failed")
        assert state.versions[2].failed == "its weights are damaged"
        assert await ask(rollout) == "1" and world.loaded == [1]

    with caplog.at_level(logging.ERROR, "luthier.serve"):
        during(world.rollout(), work)
    assert "version 2 has failed: its weights are damaged" in caplog.text


def test_a_candidate_whose_files_were_changed_is_not_loaded(world: World) -> None:
    (world.deployment.model(2) / "luthier.json").write_text("3")
    world.deployment.promote(2, Role("canary", 50))

    async def work(rollout: Rollout) -> None:
        await until(lambda: world.deployment.state.versions[2].failed)
        assert "was changed since it was deployed" in world.deployment.state.versions[2].failed
        assert 2 not in world.services and rollout.metadata["versions"] == ["1"]

    during(world.rollout(), work)


def test_a_server_starts_with_the_last_good_version(world: World) -> None:
    world.deployment.promote(2, FULL)
    world.deployment.promote(3, FULL)
    world.behaviours[3].broken = world.behaviours[2].broken = ValueError("no")

    async def work(rollout: Rollout) -> None:
        assert await ask(rollout) == "1"

    during(world.rollout(), work)
    assert world.deployment.state.full == 1 and history(world, "fail") == [3, 2]


def test_where_nothing_loads_the_server_says_why_and_the_state_stays(world: World) -> None:
    world.behaviours[1].broken = ValueError("no")
    before = world.deployment.state
    rollout = world.rollout()
    with pytest.raises(ModelError, match="Version 1 of 'reviews' cannot be loaded"):
        asyncio.run(rollout.ready())
    assert rollout.state == "failed" and world.deployment.state == before


def test_what_the_server_lacks_is_no_fault_of_the_versions(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.deployment.promote(2, FULL)
    world.behaviours[2].broken = MissingExtra("The format onnx", "export")
    before = world.deployment.state
    with pytest.raises(MissingExtra):
        asyncio.run(world.rollout().ready())
    assert world.deployment.state == before
    world.behaviours[3].broken = SettingError("no backend of that name")

    async def work(rollout: Rollout) -> None:
        world.deployment.promote(3, Role("canary", 50))
        await until(lambda: "cannot be loaded here: no backend" in caplog.text)
        assert world.deployment.state.canary is not None and len(world.services[3]) == 1

    world.behaviours[2].broken = None
    with caplog.at_level(logging.ERROR, "luthier.serve"):
        during(world.rollout(), work)


def test_going_back_to_a_version_that_no_longer_loads_leaves_what_runs(world: World) -> None:
    world.deployment.promote(2, FULL)
    world.behaviours[1].broken = ValueError("no")

    async def work(rollout: Rollout) -> None:
        world.deployment.rollback()
        await until(lambda: 1 in world.services)
        await asyncio.sleep(0.1)
        assert await ask(rollout) == "2" and len(world.services[1]) == 1

    during(world.rollout(), work)


def test_a_damaged_state_changes_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def work(rollout: Rollout) -> None:
        good = world.deployment.file.read_text()
        world.deployment.file.write_text("{")
        await until(lambda: "cannot be read" in caplog.text)
        assert await ask(rollout) == "1"
        world.deployment.file.write_text(good)
        world.deployment.promote(2, FULL)
        await until(lambda: rollout.metadata["versions"] == ["2"])

    with caplog.at_level(logging.ERROR, "luthier.serve"):
        during(world.rollout(), work)


# -- going back by itself ----------------------------------------------------------------------------------


async def busy(rollout: Rollout, count: int, prefix: str = "r") -> None:
    for number in range(count):
        try:
            await ask(rollout, f"{prefix}{number}")
        except Refused as refused:
            assert refused.status == 500


def test_it_goes_back_where_requests_fail(world: World) -> None:
    world.behaviours[2].fails = True

    async def work(rollout: Rollout) -> None:
        await busy(rollout, 5)
        world.deployment.promote(2, FULL)
        await until(lambda: rollout.metadata["versions"] == ["2"])
        await busy(rollout, 10)
        await until(lambda: rollout.metadata["versions"] == ["1"])
        assert await ask(rollout) == "1"

    during(world.rollout(), work)
    state = world.deployment.state
    assert state.full == 1 and "of 10 requests failed" in state.versions[2].failed
    assert state.history[-1].action == "rollback"


def test_it_goes_back_where_answers_become_slow(world: World) -> None:
    world.behaviours[2].seconds = 0.05

    async def work(rollout: Rollout) -> None:
        await busy(rollout, 20)
        world.deployment.promote(2, FULL)
        await until(lambda: rollout.metadata["versions"] == ["2"])
        await asyncio.gather(*(busy(rollout, 5, str(client)) for client in range(5)))
        await until(lambda: rollout.metadata["versions"] == ["1"])

    during(world.rollout(limits=Limits(requests=20, slack=0.001, slower=1.5)), work)
    assert "99th percentile" in world.deployment.state.versions[2].failed


def test_it_goes_back_where_monitoring_complains_of_something_new(world: World) -> None:
    alarms: dict[str, list[str]] = {"1": ["the inputs drift"], "2": []}

    async def work(rollout: Rollout) -> None:
        await asyncio.sleep(0.1)
        world.deployment.promote(2, FULL)
        await until(lambda: rollout.metadata["versions"] == ["2"])
        await asyncio.sleep(0.1)
        # That goes on with any version, and going back would not end it.
        alarms["2"].append("the inputs drift")
        await asyncio.sleep(0.1)
        assert world.deployment.state.full == 2
        alarms["2"].append("accuracy fell")
        await until(lambda: rollout.metadata["versions"] == ["1"])

    during(world.rollout(alarms=lambda version: list(alarms[version])), work)
    assert world.deployment.state.versions[2].failed == "accuracy fell"


def test_a_canary_that_monitoring_complains_of_ends(world: World) -> None:
    alarms: list[str] = []
    world.deployment.promote(2, Role("canary", 50))

    async def work(rollout: Rollout) -> None:
        await until(lambda: rollout.metadata["versions"] == ["1", "2"])
        await asyncio.sleep(0.1)
        alarms.append("accuracy fell")
        await until(lambda: rollout.metadata["versions"] == ["1"])

    during(world.rollout(alarms=lambda version: list(alarms) if version == "2" else []), work)
    state = world.deployment.state
    assert (state.full, state.versions[2].failed) == (1, "accuracy fell")


def test_after_the_probation_it_stays(world: World) -> None:
    async def work(rollout: Rollout) -> None:
        world.deployment.promote(2, FULL)
        await until(lambda: rollout.metadata["versions"] == ["2"])
        await until(lambda: world.loaded == [2])
        world.behaviours[2].fails = True
        await busy(rollout, 20)
        await asyncio.sleep(0.1)

    during(world.rollout(limits=Limits(seconds=0.2)), work)
    assert world.deployment.state.full == 2


def test_a_bad_canary_ends_and_the_version_in_full_charge_stays(world: World) -> None:
    world.behaviours[2].fails = True
    world.deployment.promote(2, Role("canary", 50))

    async def work(rollout: Rollout) -> None:
        await until(lambda: rollout.metadata["versions"] == ["1", "2"])
        await busy(rollout, 40)
        await until(lambda: world.deployment.state.canary is None)
        await until(lambda: world.loaded == [1])
        assert await ask(rollout) == "1"

    during(world.rollout(limits=Limits(seconds=0)), work)
    assert world.deployment.state.standing(2) == "failed"


def test_the_only_version_stays_however_bad_it_is(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.behaviours[1].fails = True

    async def work(rollout: Rollout) -> None:
        await busy(rollout, 10)
        await until(lambda: "has failed" in caplog.text)
        await asyncio.sleep(0.1)
        assert rollout.metadata["versions"] == ["1"]

    with caplog.at_level(logging.ERROR, "luthier.serve"):
        during(world.rollout(), work)
    assert caplog.text.count("has failed") == 1 and not world.deployment.state.versions[1].failed


def test_of_several_servers_one_writes_and_all_follow(world: World) -> None:
    world.behaviours[2].fails = True
    other = world.rollout()

    async def work(rollout: Rollout) -> None:
        await other.ready()
        world.deployment.promote(2, FULL)
        both = (rollout, other)
        await until(lambda: all(one.metadata["versions"] == ["2"] for one in both))
        await asyncio.gather(*(busy(one, 10) for one in both))
        await until(lambda: all(one.metadata["versions"] == ["1"] for one in both))
        await other.close()

    during(world.rollout(), work)
    assert history(world, "fail") == [2] and history(world, "rollback") == [1]


def test_it_goes_back_though_that_cannot_be_written_and_writes_it_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.behaviours[2].fails = True

    def refuse(*_: Any) -> None:
        raise RunError("the disk is full")

    async def work(rollout: Rollout) -> None:
        world.deployment.promote(2, FULL)
        await until(lambda: rollout.metadata["versions"] == ["2"])
        with monkeypatch.context() as patch:
            patch.setattr(Deployment, "change", refuse)
            await busy(rollout, 10)
            await until(lambda: rollout.metadata["versions"] == ["1"])
            assert await ask(rollout) == "1" and world.deployment.state.full == 2
        await until(lambda: world.deployment.state.full == 1)

    during(world.rollout(), work)


def test_what_failed_comes_back_by_force(world: World) -> None:
    world.behaviours[2].fails = True

    async def work(rollout: Rollout) -> None:
        world.deployment.promote(2, FULL)
        await until(lambda: rollout.metadata["versions"] == ["2"])
        await busy(rollout, 10)
        await until(lambda: world.deployment.state.full == 1)
        world.behaviours[2].fails = False
        world.deployment.promote(2, FULL, force=True)
        await until(lambda: rollout.metadata["versions"] == ["2"])
        await busy(rollout, 10)
        await asyncio.sleep(0.1)
        assert world.deployment.state.full == 2

    during(world.rollout(), work)
