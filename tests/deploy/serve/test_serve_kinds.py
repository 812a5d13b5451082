"""Pictures and lists of words over HTTP, in all the ways that they can be sent."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import deploy_models
import pytest
import serve_live
from serve_live import Live

from luthier.deploy.predictor import Predictor

WORDS = [["the", "cat", "sat"], ["a", "dog"], ["red"]]


@pytest.fixture(scope="module")
def pictures(
    finished: Callable[..., deploy_models.Finished],
) -> Iterator[tuple[Live, list[bytes], list[str]]]:
    """A server of pictures, some files, and their labels."""
    model = finished("vit")
    files: list[Path] = sorted(model.root.rglob("*.png"))[:3]
    labels = [one["label"] for one in Predictor.load(model.folder, "cpu").predict(files)]
    with serve_live.live(serve_live.opened(model.folder)) as running:
        yield running, [file.read_bytes() for file in files], labels


@pytest.fixture(scope="module")
def tagger(finished: Callable[..., deploy_models.Finished]) -> Iterator[tuple[Live, list[dict[str, Any]]]]:
    """A server of lists of words, and what it has to say of `WORDS`."""
    model = finished("bert", "token-classification")
    expected = Predictor.load(model.folder, "cpu").predict(WORDS)
    with serve_live.live(serve_live.opened(model.folder)) as running:
        yield running, expected


def labels_of(said: Any) -> list[str]:
    assert said.status_code == 200, said.text
    return [one["label"] for one in said.json()["predictions"]]


def test_pictures_as_files_of_a_form(pictures: tuple[Live, list[bytes], list[str]]) -> None:
    server, files, labels = pictures
    form = [("files", (f"{place}.png", data, "image/png")) for place, data in enumerate(files)]
    assert labels_of(server.client.post("/predict", files=form)) == labels
    # Other fields of the form are passed over.
    assert labels_of(server.client.post("/predict", files=form[:1], data={"note": "mine"})) == labels[:1]
    spoilt = [*form[:2], ("files", ("x.png", b"no picture", "image/png"))]
    found = server.client.post("/predict", files=spoilt).json()["predictions"]
    assert [one.get("label") for one in found] == [*labels[:2], None]


def test_pictures_in_base64_and_as_the_body(pictures: tuple[Live, list[bytes], list[str]]) -> None:
    server, files, labels = pictures
    coded = [base64.b64encode(data).decode() for data in files]
    assert labels_of(server.predict(coded)) == labels
    assert labels_of(server.predict(coded[0])) == labels[:1]
    for kind in ("image/png", "application/octet-stream"):
        said = server.client.post("/predict", content=files[1], headers={"content-type": kind})
        assert labels_of(said) == labels[1:2]
    found = server.predict([coded[0], "%%%", 3, coded[1]]).json()["predictions"]
    assert [one.get("label") for one in found] == [labels[0], None, None, labels[1]]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x\r\n\r\nabc",
        b"--x\r\nContent-Disposition: form-data; name=f; filename=a\r\n\r\nabc",
        b"--x\r\nContent-Disposition: form-data; name=f\r\n\r\nabc\r\n--x--\r\n",
        b"--y--\r\n",
    ],
)
def test_broken_forms_are_refused(pictures: tuple[Live, list[bytes], list[str]], body: bytes) -> None:
    said = pictures[0].client.post(
        "/predict", content=body, headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert said.status_code in (400, 422)


def test_pictures_as_tensors(pictures: tuple[Live, list[bytes], list[str]]) -> None:
    server, files, labels = pictures
    coded = [base64.b64encode(data).decode() for data in files]
    described: dict[str, Any] = {"name": "image", "datatype": "BYTES", "shape": [3]}
    plain = server.client.post("/v2/models/tiny/infer", json={"inputs": [{**described, "data": coded}]})
    packed = b"".join(struct.pack("<I", len(data)) + data for data in files)
    described["parameters"] = {"binary_data_size": len(packed)}
    head = json.dumps({"inputs": [described]}).encode()
    binary = server.client.post(
        "/v2/models/tiny/infer", content=head + packed,
        headers={"inference-header-content-length": str(len(head))},
    )  # fmt: skip
    for said in (plain, binary):
        outputs = {one["name"]: one for one in said.json()["outputs"]}
        assert outputs["label"]["data"] == labels


def test_words(tagger: tuple[Live, list[dict[str, Any]]]) -> None:
    server, expected = tagger
    found = server.predict(WORDS).json()["predictions"]
    assert [one["tags"] for one in found] == [one["tags"] for one in expected]
    spoilt = server.predict([WORDS[0], "the cat", ["a", 3], []]).json()["predictions"]
    assert ["tags" in one for one in spoilt] == [True, False, False, True]


def test_words_as_tensors(tagger: tuple[Live, list[dict[str, Any]]]) -> None:
    server, expected = tagger
    padded = [row + [""] * (3 - len(row)) for row in WORDS]
    flat = [word for row in padded for word in row]
    for shape, data in (([3, 3], flat), ([3, 3], padded), ([3], [json.dumps(row) for row in WORDS])):
        given = {"name": "tokens", "datatype": "BYTES", "shape": shape, "data": data}
        said = server.client.post("/v2/models/tiny/infer", json={"inputs": [given]})
        answers = next(one["data"] for one in said.json()["outputs"] if one["name"] == "answer")
        assert [json.loads(one)["tags"] for one in answers] == [one["tags"] for one in expected]
    given = {"name": "tokens", "datatype": "BYTES", "shape": [1], "data": ["no list"]}
    assert server.client.post("/v2/models/tiny/infer", json={"inputs": [given]}).status_code == 422


def test_the_descriptions_of_both(
    pictures: tuple[Live, list[bytes], list[str]], tagger: tuple[Live, list[dict[str, Any]]]
) -> None:
    for server in (pictures[0], tagger[0]):
        assert server.client.get("/docs").status_code == 200
        assert server.client.get("/openapi.json").json()["paths"]["/predict"]
        assert server.client.get("/v2/models/tiny").json()["inputs"][0]["datatype"] == "BYTES"
