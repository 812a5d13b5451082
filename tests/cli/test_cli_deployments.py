"""The verbs of deployments: what they print, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from luthier.cli.main import app
from luthier.deploy.counted import Counted
from luthier.deploy.opening import Proof
from luthier.deploy.versions import Deployment
from luthier.run import deployments as verbs

runner = CliRunner()


def invoke(*arguments, code=0):
    done = runner.invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def models(monkeypatch, tmp_path):
    """Three model folders that are not opened, beside a registry of the test's own."""
    monkeypatch.setattr(verbs, "prove", lambda folder: Proof("model", "text-classification", ("no", "yes")))
    monkeypatch.setenv("LUTHIER_REGISTRY", str(tmp_path / "registry"))
    folders = []
    for number in range(3):
        folder = tmp_path / f"model{number}"
        folder.mkdir()
        (folder / "luthier.json").write_text(str(number))
        folders.append(folder)
    return folders


@pytest.fixture
def deployed(models):
    for folder in models:
        invoke("deploy", folder, "--to", "reviews")
    return models


def test_deploying_says_what_became_of_it(models):
    assert "reviews: version 1, full" in invoke("deploy", models[0], "--to", "reviews").stdout
    shown = invoke("deploy", models[1], "--to", "reviews").stdout
    assert "reviews: version 2, staged" in shown and "luthier promote reviews 2 --as" in shown
    assert "same content is version 2 already" in invoke("deploy", models[1], "--to", "reviews").stdout
    shown = invoke("deploy", models[2], "--to", "reviews", "--as", "canary:10%").stdout
    assert "version 3, canary:10%" in shown and "cannot be compared" in shown


def test_promoting_and_rolling_back(deployed):
    assert "version 2, shadow" in invoke("promote", "reviews", 2, "--as", "shadow").stdout
    assert "already; nothing was changed" in invoke("promote", "reviews", 2, "--as", "shadow").stdout
    told = json.loads(invoke("promote", "reviews", 3, "--json").stdout)
    assert told["version"] == 3 and told["role"] == "full" and told["changed"]
    assert "version 1 is in full charge" in invoke("rollback", "reviews", "--reason", "it was slow").stdout
    assert json.loads(invoke("rollback", "reviews", "--to", 2, "--json").stdout)["version"] == 2


def test_the_list_of_all_and_of_one(deployed):
    invoke("promote", "reviews", 2, "--as", "canary:5%", "--reason", "for a look")
    Deployment("reviews").change(lambda state: state.fail(3, "its p99 rose"))
    shown = invoke("deployments").stdout
    assert "reviews" in shown and "2 (5%)" in shown and "text-classification" in shown
    shown = invoke("deployments", "reviews").stdout
    for words in ("version 1 in full charge", "canary:5%", "for a look", "version 3 failed: its p99 rose"):
        assert words in shown
    (told,) = json.loads(invoke("deployments", "--json").stdout)
    assert told == json.loads(invoke("deployments", "reviews", "--json").stdout)
    assert [row["role"] for row in told["versions"]] == ["failed", "canary:5%", "full"]


def test_what_servers_counted_is_summed(deployed):
    invoke("promote", "reviews", 2, "--as", "shadow")
    place = Deployment("reviews").serving
    compared = {
        "version": 2, "compared": 50, "agreed": 48, "confidence": 1.0, "seconds": 0.5, "shadow_seconds": 1.0,
        "dropped": 3, "failed": 1,
    }  # fmt: skip
    for number in (1, 2):
        values = {"versions": {"1": {"requests": 10 * number, "errors": 1}}, "shadow": compared}
        writer = Counted(place)
        writer._path = place / f"server{number}.json"
        writer.write(values)
    (place / "damaged.json").write_text("{")
    shown = invoke("deployments", "reviews").stdout
    assert "agrees in 96.0% of 100 answers" in shown and "20.0 ms against 10.0 ms" in shown
    told = json.loads(invoke("deployments", "reviews", "--json").stdout)
    assert (told["versions"][-1]["requests"], told["versions"][-1]["errors"]) == (30, 2)


def test_pruning_says_what_went(deployed):
    invoke("promote", "reviews", 3)
    assert "removed: 2" in invoke("deployments", "reviews", "--prune", 1).stdout
    assert "removed: none" in invoke("deployments", "reviews", "--prune", 1).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["deploy", "nowhere", "--to", "reviews"], "no run, no export"),
        (["promote", "reviews", "9"], "There is no version 9"),
        (["promote", "reviews", "2", "--as", "half"], "'half'"),
        (["promote", "absent", "1"], "no deployment 'absent'"),
        (["promote", "../reviews", "1"], "not a name of a deployment"),
        (["rollback", "reviews"], "No version was in full charge before"),
        (["deployments", "absent"], "no deployment 'absent'"),
        (["deployments", "--prune", "1"], "needs the name"),
        (["deployments", "reviews", "--prune", "-1"], "cannot be kept"),
    ],
)
def test_what_cannot_be_is_told_in_one_line_with_what_to_do(deployed, arguments, words):
    assert words in invoke(*arguments, code=2).stderr


def test_the_registry_can_be_named(deployed, tmp_path):
    assert "No deployments in" in invoke("deployments", "--registry", tmp_path / "other").stdout
    invoke("deploy", deployed[0], "--to", "reviews", "--registry", tmp_path / "other")
    assert (tmp_path / "other" / "reviews" / "state.json").is_file()
    assert Path(Deployment("reviews").registry) == tmp_path / "registry"
