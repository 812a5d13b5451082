"""A real server records what it answers, and serves on where it cannot."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from deploy_models import Finished

from luthier.deploy.predictor import Predictor
from luthier.errors import SettingError
from luthier.monitor import statistics
from luthier.monitor.history import History
from luthier.monitor.records import Records

pytest.importorskip("uvicorn", reason="the packages for serving are not installed")
pytestmark = pytest.mark.e2e
PATIENCE = 120.0
LUTHIER = [sys.executable, "-m", "luthier.cli.main"]


@contextmanager
def serving(folder: Path, *options: object) -> Iterator[tuple[httpx.Client, list[str]]]:
    """A client of a running server, and what the server says."""
    command = [*LUTHIER, "serve", str(folder), "--port", "0", "--threads", "1", *map(str, options)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert process.stderr is not None
    said: list[str] = []
    found = None
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"at (http://\S+?),", line):
            break
    assert found is not None, "".join(said)
    lines = process.stderr
    reader = threading.Thread(target=lambda: said.extend(lines), daemon=True)
    reader.start()
    try:
        with httpx.Client(base_url=found.group(1), timeout=PATIENCE) as client:
            yield client, said
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        reader.join(PATIENCE)


def gauge(client: httpx.Client, name: str) -> float | None:
    found = re.search(rf"^luthier_{name} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return None if found is None else float(found.group(1))


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_what_is_answered_is_recorded(finished: Callable[..., Finished], tmp_path: Path) -> None:
    model = finished("bert")
    texts = [str(text) for text in model.frame[model.task.input].head(12)]
    place = tmp_path / "records.sqlite"
    with serving(model.folder, "--name", "zoo", "--record", place, "--keep-inputs") as (client, _):
        told = [client.post("/predict", json={"inputs": texts[at : at + 3]}).json() for at in range(0, 12, 3)]
        until(lambda: gauge(client, "monitor_recorded") == 12)
        assert gauge(client, "monitor_dropped") == gauge(client, "monitor_failing") == 0
        with Records(place) as records:
            History(records).keep_look("zoo", "1", 1, {"alarm": True, "n": 12}, time.time())
            History(records).begin_alarm("zoo", "1", "harm", {}, time.time())
    ids = [one["id"] for answer in told for one in answer["predictions"]]
    with Records(place) as records:
        found = records.latest("zoo")
        assert sorted(found.ids) == sorted(ids) and set(found.versions) == {"1"}
        inputs = records.inputs("zoo", ids)
    assert [inputs[one] for one in ids] == texts
    # As the predictor says and measures it.
    predictor = Predictor.load(model.folder, "cpu")
    expected = predictor.outputs(predictor.frame(texts))
    by_id = dict(zip(found.ids, found.outputs, strict=True))
    np.testing.assert_allclose([by_id[one] for one in ids], expected, atol=1e-4)
    saved = predictor.saved
    numbers = statistics.of_rows(
        predictor.task, predictor.frame(texts), saved.processor, max_length=saved.recipe.max_length
    )
    measured = dict(zip(found.ids, found.statistics, strict=True))
    for name, values in numbers.items():
        assert [measured[one][name] for one in ids] == pytest.approx(list(values))
    assert all(row is not None and row.ndim == 1 for row in found.features)


def test_a_server_serves_on_where_it_cannot_record(finished: Callable[..., Finished], tmp_path: Path) -> None:
    place = tmp_path / "records.sqlite"
    place.write_bytes(b"these are not the pages of a database" * 100)
    with serving(finished("bert").folder, "--record", place) as (client, said):
        for _ in range(5):
            assert client.post("/predict", json={"inputs": ["a cat"]}).status_code == 200
        until(lambda: gauge(client, "monitor_failing") == 1)
        assert client.post("/predict", json={"inputs": ["a cat"]}).status_code == 200
        assert gauge(client, "monitor_recorded") == 0
    lines = [line for line in said if "observations are not recorded" in line]
    assert len(lines) == 1 and "not a database" in lines[0]
    assert not any("a cat" in line for line in said)


def test_a_share_of_requests_without_a_place_is_refused(tmp_path: Path) -> None:
    from luthier.deploy.serve.settings import ServeSettings

    for wrong in ({"record": "r.sqlite", "record_share": 0.0}, {"record_share": 0.5}, {"keep_inputs": True}):
        with pytest.raises(SettingError, match="record"):
            ServeSettings(str(tmp_path), **wrong).check()
