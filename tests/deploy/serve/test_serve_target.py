from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from rollout_fakes import make

from luthier.deploy.serve.target import Target, charge_of
from luthier.deploy.state import Role
from luthier.deploy.versions import Deployment
from luthier.errors import RunError

FULL = Role("full")


def with_target(folder: Path, work: Callable[[Target, Deployment], Coroutine[Any, Any, None]]) -> None:
    """Runs work with a target of a deployment whose version 2 took over from version 1."""
    deployment = make(folder).deployment
    deployment.promote(2, FULL)

    async def run() -> None:
        target = Target(deployment)
        await target.read()
        await work(target, deployment)

    asyncio.run(run())


def test_a_change_on_disk_is_seen_once(tmp_path: Path) -> None:
    async def work(target: Target, deployment: Deployment) -> None:
        assert not await target.look()
        deployment.promote(3, FULL)
        assert await target.look() and target.wanted.full == 3
        assert not await target.look()

    with_target(tmp_path, work)


def test_a_failure_counts_here_before_it_is_written(tmp_path: Path) -> None:
    async def work(target: Target, deployment: Deployment) -> None:
        target.fail(2, "bad", charge_of(target.wanted, 2))
        assert (target.wanted.full, target.disk.full, deployment.state.full) == (1, 2, 2)
        assert await target.write() and not await target.write()
        assert (target.wanted.full, target.disk.full, deployment.state.full) == (1, 1, 1)

    with_target(tmp_path, work)


def test_a_failure_in_a_role_that_has_ended_counts_no_longer(tmp_path: Path) -> None:
    async def work(target: Target, deployment: Deployment) -> None:
        charge = charge_of(target.wanted, 2)
        deployment.rollback()
        deployment.promote(2, FULL)
        before = deployment.state
        # This server still believes that version 2 has the role in which it failed.
        target.fail(2, "bad", charge)
        assert target.wanted.full == 1
        await target.write()
        assert deployment.state == before and target.wanted.full == 2

    with_target(tmp_path, work)


def test_what_cannot_be_written_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RunError("the disk is full")

    async def work(target: Target, deployment: Deployment) -> None:
        target.fail(2, "bad")
        with monkeypatch.context() as patch:
            patch.setattr(Deployment, "change", refuse)
            assert not await target.write() and target.wanted.full == 1
        assert await target.write() and deployment.state.versions[2].failed == "bad"

    with_target(tmp_path, work)
