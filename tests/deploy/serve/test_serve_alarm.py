"""From recorded requests over monitoring's alarm to the version before: all of it with real processes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from deploy_models import Finished

from luthier.deploy.predictor import Predictor
from luthier.deploy.versions import Deployment
from luthier.monitor import reference
from luthier.monitor.history import History
from luthier.monitor.records import Records
from luthier.run.deployments import deploy_model, promote
from luthier.run.labels import label

pytest.importorskip("uvicorn", reason="the packages for serving are not installed")
pytestmark = pytest.mark.e2e
LUTHIER = [sys.executable, "-m", "luthier.cli.main"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
PATIENCE = 120.0
ROWS = 300
"""Requests to each version."""


def with_reference(model: Finished, folder: Path) -> Path:
    """A model as a run leaves it that has found it as right as it is sure."""
    shutil.copytree(model.folder, folder)
    frame = model.frame.sample(800, replace=True, random_state=0).reset_index(drop=True)
    predictor = Predictor.load(folder, "cpu")
    outputs = predictor.outputs(predictor.frame(frame))
    shares = np.exp(np.stack(outputs).astype(np.float64))
    draw, names = np.random.default_rng(0), predictor.task.label_names
    frame["label"] = [names[draw.choice(len(names), p=row / row.sum())] for row in shares]
    found = reference.gather(predictor.task, outputs, predictor.task.targets(frame), frame)
    about = {"n": len(frame), "metric": "accuracy", "metrics": {}}
    reference.write(folder / "reference", found, predictor.task, about)
    return folder


@contextmanager
def running(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A command, and what it has printed so far."""
    process = subprocess.Popen(
        [*LUTHIER, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=ENVIRONMENT,
    )  # fmt: skip
    said: list[str] = []
    lines = process.stdout
    assert lines is not None
    threading.Thread(target=lambda: said.extend(lines), daemon=True).start()
    try:
        yield process, said
    finally:
        # Not SIGINT, which is ignored by what was started in the background of a script.
        process.terminate()
        process.wait(PATIENCE)


def until(condition: Callable[[], object], said: Sequence[str]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "".join(said)
        time.sleep(0.1)


def ask(client: httpx.Client, texts: Sequence[str]) -> tuple[dict[str, str], set[str]]:
    """The answers by their ids, and the versions that they are of."""
    answers: dict[str, str] = {}
    versions = set()
    for at in range(0, len(texts), 30):
        told = client.post("/predict", json={"inputs": texts[at : at + 30]}).json()
        answers |= {one["id"]: one["label"] for one in told["predictions"]}
        versions.add(told["version"])
    return answers, versions


def test_a_version_that_turns_out_to_be_wrong_is_relieved(
    finished: Callable[..., Finished], tmp_path: Path
) -> None:
    registry = tmp_path / "registry"
    for number, dropout in ((1, 0.1), (2, 0.2)):
        model = with_reference(finished("bert", head_dropout=dropout), tmp_path / f"model{number}")
        deploy_model(model, "zoo", registry=registry)
    texts = list(finished("bert").frame["text"].sample(ROWS, replace=True, random_state=1))
    deployment = Deployment("zoo", registry)
    place = deployment.folder / "records.sqlite"
    with (
        running(
            "serve", "zoo", "--registry", registry, "--port", 0, "--threads", 1, "--record", place
        ) as served,
        running("monitor", "zoo", "--registry", registry, "--watch", "--every", 1) as watched,
    ):
        until(lambda: re.search(r"at (http://\S+?),", "".join(served[1])), served[1])
        found = re.search(r"at (http://\S+?),", "".join(served[1]))
        assert found is not None
        with httpx.Client(base_url=found.group(1), timeout=PATIENCE) as client:
            right, versions = ask(client, texts)
            assert versions == {"1"}

            def recorded(ids: dict[str, str]) -> bool:
                with Records(place) as records:
                    return set(ids) <= set(records.latest("zoo", most=2 * ROWS).ids)

            until(lambda: recorded(right), served[1])
            label(
                "zoo",
                pd.DataFrame({"id": list(right), "label": list(right.values())}),
                registry=str(registry),
            )
            promote("zoo", 2, registry=registry, force=True)
            until(lambda: ask(client, texts[:1])[1] == {"2"}, served[1])
            answers, versions = ask(client, texts)
            assert versions == {"2"}
            until(lambda: recorded(answers), served[1])
            wrong = ["no" if said == "yes" else "yes" for said in answers.values()]
            label("zoo", pd.DataFrame({"id": list(answers), "label": wrong}), registry=str(registry))
            until(lambda: deployment.state.full == 1, [*served[1], *watched[1]])
            assert "less often right than it was tested" in deployment.state.versions[2].failed
            until(lambda: ask(client, texts[:1])[1] == {"1"}, served[1])
    with Records(place) as records:
        assert [alarm.version for alarm in History(records).alarms("zoo")] == ["2"]
