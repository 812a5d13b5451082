from __future__ import annotations

import errno
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deploy_models import Finished

from luthier.deploy import content
from luthier.deploy.opening import Proof, prove
from luthier.deploy.packing import Candidate
from luthier.deploy.state import DeploymentState, Role
from luthier.deploy.versions import Change, Deployment, deployments, registry_folder
from luthier.errors import LuthierError, ModelError, Refused, RunError, SettingError

PROOF = Proof("model", "text-classification", ("no", "yes"))
EVALUATION = {
    "metric": "accuracy", "maximize": True, "metrics": {"accuracy": 0.9},
    "intervals": {"accuracy": [0.85, 0.95]}, "n": 200,
}  # fmt: skip
TOUCHING = ("posix", "fcntl", "_io")
"""Modules of what touches the disk."""
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def made(folder: Path, text: str = "weights", accuracy: float | None = None) -> Candidate:
    """A model folder whose content is a text, judged or not."""
    (folder / "deep").mkdir(parents=True)
    (folder / "luthier.json").write_text("{}")
    (folder / "deep" / "weights").write_text(text)
    evaluation = None if accuracy is None else {**EVALUATION, "metrics": {"accuracy": accuracy}}
    return Candidate(folder, str(folder), evaluation, "" if accuracy is None else "same data")


def proven(folder: Path) -> Proof:
    assert (folder / "luthier.json").is_file()
    return PROOF


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment("reviews", tmp_path / "registry")


@pytest.fixture
def three(deployment: Deployment, tmp_path: Path) -> Deployment:
    """Versions 1, 2 and 3, of which the first is in charge."""
    for number in (1, 2, 3):
        deployment.add(made(tmp_path / f"model{number}", f"weights {number}", 0.9), proven)
    return deployment


# -- what is deployed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a\\b", "-a", "a b", "a\n", "é", "x" * 65])
def test_a_name_is_no_path(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="not a name of a deployment"):
        Deployment(name, tmp_path)


def test_the_registry_is_as_given_as_the_environment_says_or_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LUTHIER_REGISTRY", raising=False)
    assert registry_folder() == Path("deployments")
    monkeypatch.setenv("LUTHIER_REGISTRY", "/somewhere")
    assert registry_folder() == Path("/somewhere") and registry_folder("here") == Path("here")


def test_a_version_is_a_copy_with_its_record_beside_it(deployment: Deployment, tmp_path: Path) -> None:
    reference = tmp_path / "reference"
    reference.mkdir()
    (reference / "reference.json").write_text("[]")
    candidate = replace(made(tmp_path / "m", accuracy=0.9), reference=reference, run={"name": "r"})
    done = deployment.add(candidate, proven, reason="first")
    assert done.changed and done.version.number == 1 and done.state.full == 1
    place = deployment.place(1)
    assert (place / "model" / "deep" / "weights").read_text() == "weights"
    assert not (place / "model/deep/weights").samefile(candidate.model / "deep/weights")
    assert json.loads((place / "evaluation.json").read_text())["metrics"] == {"accuracy": 0.9}
    assert (place / "reference" / "reference.json").is_file()
    record = json.loads((place / "version.json").read_text())
    assert record["digest"] == done.version.digest == content.digest(content.sums(candidate.model))
    assert record["run"] == {"name": "r"} and record["facts"]["data_fingerprint"] == "same data"
    assert deployment.state.history[0].reason == "first"
    deployment.check(1)


def test_an_export_of_the_model_comes_along_and_is_checked_like_it(
    deployment: Deployment, tmp_path: Path
) -> None:
    plain = made(tmp_path / "m", accuracy=0.9)
    graph = tmp_path / "graph"
    graph.mkdir()
    (graph / "export.json").write_text("{}")
    assert deployment.add(plain, proven).changed and deployment.graph(1) is None
    done = deployment.add(replace(plain, graph=graph), proven)
    assert done.changed and done.version.number == 2, "it is not the same with an export and without"
    assert not deployment.add(replace(plain, graph=graph), proven).changed
    place = deployment.graph(2)
    assert place is not None and (place / "export.json").read_text() == "{}"
    assert done.version.bytes == deployment.state.versions[1].bytes + 2
    deployment.check(2)
    (place / "export.json").write_text("[]")
    with pytest.raises(ModelError, match=r"export\.json' was changed"):
        deployment.check(2)
    shutil.rmtree(place)
    with pytest.raises(ModelError):
        deployment.check(2)
    (deployment.place(1) / "onnx").mkdir()
    (deployment.place(1) / "onnx" / "export.json").write_text("{}")
    with pytest.raises(ModelError, match="was added"):
        deployment.check(1)


def test_the_same_content_is_not_deployed_twice(three: Deployment, tmp_path: Path) -> None:
    before = three.state
    again = made(tmp_path / "again", "weights 2")
    (again.model / "README.md").write_text("a card changes no answer")
    done = three.add(again, proven, role=Role("full"))
    assert not done.changed and done.version.number == 2
    assert three.state == before and sorted(path.name for path in three.versions.iterdir()) == ["1", "2", "3"]


def test_what_does_not_answer_is_no_version(three: Deployment, tmp_path: Path) -> None:
    def broken(folder: Path) -> Proof:
        raise ModelError("it does not open")

    before = three.state
    with pytest.raises(ModelError, match="does not open"):
        three.add(made(tmp_path / "m", "broken"), broken)
    assert three.state == before and sorted(path.name for path in three.versions.iterdir()) == ["1", "2", "3"]


def test_a_link_is_not_followed(deployment: Deployment, tmp_path: Path) -> None:
    candidate = made(tmp_path / "m")
    (candidate.model / "link").symlink_to("/etc/hostname")
    with pytest.raises(ModelError, match="link"):
        deployment.add(candidate, proven)
    assert not deployment.exists


@pytest.mark.parametrize("how", ["changed", "missing", "added"])
def test_a_model_that_is_not_what_was_deployed_is_told(three: Deployment, how: str) -> None:
    file = three.model(2) / "deep" / "weights"
    if how == "missing":
        file.unlink()
    else:
        (file if how == "changed" else file.with_name("more")).write_text("weights x")
    with pytest.raises(ModelError, match=f"was {how}"):
        three.check(2)
    three.check(1)


def test_a_full_disk_leaves_all_as_it_was(
    three: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = three.state
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match="No space left"):
            three.add(made(tmp_path / "m", "more"), proven)
        with pytest.raises(RunError, match="No space left"):
            three.promote(2, Role("full"))
    assert three.state == before
    three.promote(2, Role("full"))
    assert three.state.full == 2


# -- the gate --------------------------------------------------------------------------------------------


def test_a_worse_version_takes_over_by_force_only(deployment: Deployment, tmp_path: Path) -> None:
    deployment.add(made(tmp_path / "good", "good", 0.9), proven)
    worse = made(tmp_path / "worse", "worse", 0.6)
    with pytest.raises(Refused, match="worse beyond chance"):
        deployment.add(worse, proven, role=Role("canary", 10))
    assert sorted(deployment.state.versions) == [1]
    deployment.add(worse, proven)
    with pytest.raises(Refused, match="worse beyond chance") as caught:
        deployment.promote(2, Role("full"))
    assert "--force" in str(caught.value)
    assert deployment.promote(2, Role("shadow")).state.shadow == 2
    done = deployment.promote(2, Role("full"), force=True)
    assert done.state.full == 2 and "worse beyond chance" in done.state.history[-1].reason


def test_what_cannot_be_compared_takes_over_and_that_is_said(three: Deployment, tmp_path: Path) -> None:
    three.add(made(tmp_path / "unjudged", "unjudged"), proven)
    assert "cannot be compared" in three.promote(4, Role("canary", 10)).said


def test_of_an_export_its_own_record_is_taken(deployment: Deployment, tmp_path: Path) -> None:
    told = {
        "evaluation": {k: v for k, v in EVALUATION.items() if k != "maximize"},
        "data_fingerprint": "same",
    }

    def exported(folder: Path) -> Proof:
        return replace(PROOF, kind="export", maximize=False, recorded=told)

    facts = deployment.add(made(tmp_path / "m"), exported).version.facts
    assert (facts.value, facts.intervals["accuracy"], facts.data_fingerprint) == (0.9, (0.85, 0.95), "same")
    assert facts.maximize is False


# -- pruning, and what is left of others -------------------------------------------------------------------


def test_pruning_removes_folders_too_and_numbers_are_not_given_again(
    three: Deployment, tmp_path: Path
) -> None:
    three.promote(3, Role("full"))
    assert three.prune(1) == [2]
    assert sorted(path.name for path in three.versions.iterdir()) == ["1", "3"]
    assert three.rollback().state.full == 1
    assert three.prune(0) == [3]
    assert three.add(made(tmp_path / "m", "more"), proven).version.number == 4


def test_what_a_killed_deploy_left_is_never_listed_and_removed_by_the_next(
    three: Deployment, tmp_path: Path
) -> None:
    (three.versions / ".partial-1").mkdir()
    (three.versions / "4").mkdir()
    (three.versions / "4" / "model").mkdir()
    assert sorted(three.state.versions) == [1, 2, 3]
    done = three.add(made(tmp_path / "m", "more"), proven)
    assert done.version.number == 4 and (three.model(4) / "luthier.json").is_file()
    assert sorted(path.name for path in three.versions.iterdir()) == ["1", "2", "3", "4"]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    absent = Deployment("absent", tmp_path)
    for ask in (
        lambda: absent.state,
        absent.rollback,
        lambda: absent.promote(1, Role("full")),
        lambda: absent.prune(1),
    ):
        with pytest.raises(RunError, match="There is no deployment 'absent'"):
            ask()
    assert deployments(tmp_path) == [] == deployments(tmp_path / "nowhere") and not absent.folder.exists()


# -- killed at any point -----------------------------------------------------------------------------------


def killed_at(point: int, work: Callable[[], Any]) -> bool:
    """Runs work in a fork that is killed after so many calls of the system or of a file; whether it lived to
    its end."""
    child = os.fork()
    if child == 0:
        left = point

        def count(frame: object, event: str, called: Any) -> None:
            nonlocal left
            owner = getattr(called, "__self__", None)
            if event == "c_return" and getattr(owner, "__name__", type(owner).__module__) in TOUCHING:
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.setprofile(count)
            work()
            sys.setprofile(None)
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, "the work itself failed"
    return os.WIFEXITED(status)


def sound(deployment: Deployment) -> DeploymentState:
    """The state, once it is known that all versions it names are whole."""
    state = deployment.state
    for number in state.versions:
        deployment.check(number)
    assert state.full in state.versions
    return state


def kills(deployment: Deployment, work: Callable[[], Any], step: int = 1) -> Iterator[DeploymentState]:
    """The sound state after each kill of work that begins with the same registry each time."""
    pristine = deployment.registry.with_name("pristine")
    shutil.copytree(deployment.registry, pristine)
    for point in itertools.count(step=step):
        if killed_at(point, work):
            break
        yield sound(deployment)
        shutil.rmtree(deployment.registry)
        shutil.copytree(pristine, deployment.registry)
    assert point > 12, "it was hardly ever killed, so little was tested"


@needs_fork
def test_a_deploy_killed_anywhere_is_whole_or_never_was(three: Deployment, tmp_path: Path) -> None:
    candidate = made(tmp_path / "m", "more", 0.9)

    def work() -> Change:
        return three.add(candidate, proven, role=Role("full"))

    outcomes = set()
    for count, state in enumerate(kills(three, work, step=2)):
        assert (state.full, sorted(state.versions)) in [(1, [1, 2, 3]), (4, [1, 2, 3, 4])]
        outcomes.add(state.full == 4)
        if count % 10 == 0:
            work()
            assert sorted(path.name for path in three.versions.iterdir()) == ["1", "2", "3", "4"]
            assert sound(three).full == 4
    assert outcomes == {True, False}, "it was never killed on one side of the change"


@needs_fork
@pytest.mark.parametrize("what", ["promote", "rollback", "prune"])
def test_a_change_killed_anywhere_has_happened_or_not(three: Deployment, what: str) -> None:
    three.promote(2, Role("full"))
    before = three.state
    work: dict[str, Callable[[], Any]] = {
        "promote": lambda: three.promote(3, Role("full")),
        "rollback": lambda: three.rollback(to=1),
        "prune": lambda: three.prune(0),
    }
    expected = {"promote": (3, [1, 2, 3]), "rollback": (1, [1, 2, 3]), "prune": (2, [1, 2])}
    outcomes = set()
    for state in kills(three, work[what]):
        changed = state.revision == before.revision + 1
        assert changed or state == before
        outcomes.add(changed)
        work[what]()
        assert (sound(three).full, sorted(three.state.versions)) == expected[what]
        assert sorted(int(path.name) for path in three.versions.iterdir()) == sorted(three.state.versions)
    assert outcomes == {True, False}, "it was never killed on one side of the change"


# -- two at once -------------------------------------------------------------------------------------------


def promote_often(registry: Path, numbers: list[int], start: Any) -> None:
    deployment = Deployment("reviews", registry)
    start.wait()
    for number in numbers:
        deployment.promote(number, Role("full"))


@needs_fork
def test_of_two_promoters_neither_undoes_the_other(three: Deployment) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Event()
    both = [
        context.Process(target=promote_often, args=(three.registry, numbers, start))
        for numbers in ([2, 3] * 10, [3, 2] * 10)
    ]
    for process in both:
        process.start()
    start.set()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    state = sound(three)
    promoted = [event.version for event in state.history if event.action == "promote"]
    # Whoever finds its version in charge already changes nothing: in the history they take turns.
    assert all(one != other for one, other in itertools.pairwise(promoted))
    assert state.full == promoted[-1] and state.revision == len(state.history)


def test_whoever_finds_it_locked_for_long_is_told(three: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    from luthier.deploy import lock, versions

    monkeypatch.setattr(versions, "SECONDS", 0.05)
    with (
        lock.locked(three.folder / "lock", seconds=1, what="x"),
        pytest.raises(RunError, match="being changed by another process"),
    ):
        three.rollback()


# -- real models -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_a_real_model_answers_before_it_counts(
    finished: Callable[..., Finished], deployment: Deployment, task: str
) -> None:
    model = finished("bert", task)
    done = deployment.add(Candidate(model.folder, "a test"), prove)
    assert (done.version.kind, done.version.facts.task) == ("model", task)
    assert done.version.facts.labels == tuple(model.task.label_names)


def test_a_damaged_real_model_is_no_version(
    finished: Callable[..., Finished], deployment: Deployment, tmp_path: Path
) -> None:
    content.copy(finished("bert", "text-classification").folder, tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    values = bytearray(weights.read_bytes())
    values[-1] ^= 1
    weights.write_bytes(values)
    with pytest.raises(LuthierError, match="changed"):
        deployment.add(Candidate(tmp_path / "m", "a test"), prove)
    assert not deployment.exists
