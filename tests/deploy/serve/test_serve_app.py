from __future__ import annotations

import json
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import deploy_models
import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serve_live import Live

from luthier.deploy.predictor import Predictor

TEXTS = ["the cat sat", "a dog", "red house", "the bird ran on the tree and walks fast", "talk", ""]


def tensor(data: Any, **more: Any) -> dict[str, Any]:
    return {"name": "text", "datatype": "BYTES", "shape": [len(data)], "data": data, **more}


def test_answers_under_concurrency_are_the_predictors(
    server: Live, text_model: deploy_models.Finished
) -> None:
    expected = dict(zip(TEXTS, Predictor.load(text_model.folder, "cpu").predict(TEXTS), strict=True))

    def ask(number: int) -> None:
        given = [TEXTS[(number + offset) % len(TEXTS)] for offset in range(1 + number % 3)]
        # In the middle of some is one that is bad: its neighbours must not notice.
        inputs: list[Any] = [given[0], 3, *given[1:]] if number % 4 == 0 else list(given)
        found = server.predict(inputs).json()["predictions"]
        if number % 4 == 0:
            assert found.pop(1)["error"]["code"] == "input"
        for text, one in zip(given, found, strict=True):
            assert one["label"] == expected[text]["label"]
            assert one["confidence"] == pytest.approx(expected[text]["confidence"], abs=1e-5)

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(ask, range(120)))


def test_one_input_and_its_ids(server: Live) -> None:
    first, second = (server.predict("a dog", headers={"X-Request-ID": "mine-1"}) for _ in range(2))
    assert first.headers["x-request-id"] == "mine-1"
    ids = [one.json()["predictions"][0]["id"] for one in (first, second)]
    assert all(name.startswith("mine-1-") for name in ids)
    assert ids[0] != ids[1]
    assert first.json()["model"] == "tiny"
    assert first.json()["version"] == "1"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "json"),
        (b"{", 400, "json"),
        (b"\xff\xfe", 400, "json"),
        (b"[" * 100_000, 422, "depth"),
        (b'{"inputs": ' + b"[" * 20 + b"]" * 20 + b"}", 422, "depth"),
        (b'{"inputs": ' + b"9" * 5000 + b"}", 400, "json"),
        (b"[1]", 422, "body"),
        (b"{}", 422, "body"),
        (b'{"inputs": []}', 422, "no_inputs"),
        (b'{"inputs": [null]}', 422, "input"),
        (b'{"inputs": ["a"], "more": 1}', 422, "body"),
        (b'{"inputs": ["a"], "timeout": -1}', 422, "body"),
        (b'{"inputs": ["a"], "timeout": true}', 422, "body"),
        (b'{"inputs": ["a"], "version": 1}', 422, "body"),
        (b'{"inputs": ["a"], "version": "7"}', 404, "no_version"),
        (json.dumps({"inputs": ["a"] * 257}).encode(), 413, "too_many"),
        (json.dumps({"inputs": ["a" * 100_001]}).encode(), 422, "too_large"),
    ],
)
def test_what_is_wrong_is_told(server: Live, body: bytes, status: int, code: str) -> None:
    said = server.client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert (said.status_code, said.json()["error"]["code"]) == (status, code)
    assert said.json()["error"]["request"] == said.headers["x-request-id"]
    assert "Traceback" not in said.text


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_forms_of_other_sites_are_no_requests(server: Live, kind: str) -> None:
    said = server.client.post("/predict", content=b'{"inputs": "a"}', headers={"content-type": kind})
    assert said.status_code == 415


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/predict", 405),
        ("DELETE", "/predict", 405),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/tiny/versions/2", 404),
        ("GET", "/v2/models/tiny/versions/1", 200),
        ("GET", "/v2/models/tiny/ready", 200),
        ("HEAD", "/v2/health/live", 200),
        ("GET", "/v2/models/tiny/unload", 404),
        ("GET", "/v2/models/../../etc/passwd", 404),
    ],
)
def test_paths_and_methods(server: Live, method: str, path: str, status: int) -> None:
    said = server.client.request(method, path)
    assert said.status_code == status
    assert status != 405 or said.headers["allow"] == "POST"
    assert method != "HEAD" or not said.content


def test_the_open_inference_protocol(server: Live) -> None:
    client = server.client
    assert client.get("/v2").json()["name"] == "luthier"
    assert client.get("/v2/health/ready").json()["ready"] is True
    about = client.get("/v2/models/tiny").json()
    assert about["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    plain = server.predict(TEXTS[:2]).json()["predictions"]
    for path in ("/v2/models/tiny/infer", "/v2/models/tiny/versions/1/infer"):
        said = client.post(path, json={"id": "7", "inputs": [tensor(TEXTS[:2])]}).json()
        assert (said["id"], said["model_name"], said["model_version"]) == ("7", "tiny", "1")
        outputs = {one["name"]: one for one in said["outputs"]}
        assert outputs["label"]["data"] == [one["label"] for one in plain]
        assert outputs["probabilities"]["shape"] == [2, 2]
        assert json.loads(outputs["answer"]["data"][0])["label"] == plain[0]["label"]
        # What the model was said to give is what it gives.
        told = {one["name"]: (one["datatype"], one["shape"][1:]) for one in about["outputs"]}
        assert told == {name: (one["datatype"], one["shape"][1:]) for name, one in outputs.items()}
    wanted = client.post(
        "/v2/models/tiny/infer", json={"inputs": [tensor(["a"])], "outputs": [{"name": "label"}]}
    )
    assert [one["name"] for one in wanted.json()["outputs"]] == ["label"]


def test_binary_tensors_as_tritons_client_sends_them(server: Live) -> None:
    data = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in TEXTS)
    described = tensor(TEXTS, parameters={"binary_data_size": len(data)})
    del described["data"]
    head = json.dumps({"inputs": [described]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    said = server.client.post("/v2/models/tiny/infer", content=head + data, headers=headers)
    labels = next(one["data"] for one in said.json()["outputs"] if one["name"] == "label")
    assert labels == [one["label"] for one in server.predict(TEXTS).json()["predictions"]]
    for cut in (1, 3, 10):
        said = server.client.post("/v2/models/tiny/infer", content=(head + data)[:-cut], headers=headers)
        assert said.status_code == 422


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        [{}],
        "text",
        [tensor(["a"], datatype="FP32")],
        [tensor(["a"], shape=[2])],
        [tensor(["a"], shape=[10**9, 10**9])],
        [tensor(["a"], shape=[-1])],
        [tensor(["a"], shape=[True])],
        [tensor([3])],
        [tensor(["a"]), tensor(["b"])],
        [tensor(["a"], parameters={"binary_data_size": 3})],
    ],
)
def test_wrong_tensors_are_refused(server: Live, inputs: Any) -> None:
    said = server.client.post("/v2/models/tiny/infer", json={"inputs": inputs})
    assert said.status_code in (413, 422)
    assert isinstance(said.json()["error"], str)


def test_metrics_parse_and_tell_times_apart(server: Live) -> None:
    server.predict(TEXTS)
    server.predict(3)
    server.app.metrics.add(lambda: {"drift_share": 0.25})
    families = {one.name: one for one in text_string_to_metric_families(server.metrics())}
    for name in ("queue_seconds", "batch_seconds", "compute_seconds", "batch_rows", "request_seconds"):
        samples = families[f"luthier_{name}"].samples
        assert any(one.name.endswith("_count") and one.value > 0 for one in samples), name
    errors = {one.labels.get("code"): one.value for one in families["luthier_errors"].samples}
    assert errors["input"] >= 1
    answered = next(one.value for one in families["luthier_answers"].samples if one.name.endswith("_total"))
    rows = next(one.value for one in families["luthier_batch_rows"].samples if one.name.endswith("_sum"))
    assert answered == rows >= len(TEXTS)
    assert families["luthier_open_requests"].samples[0].value == 1
    assert families["luthier_ready"].samples[0].value == 1
    assert families["luthier_drift_share"].samples[0].value == 0.25
    labels = {
        value for family in families.values() for one in family.samples for value in one.labels.values()
    }
    assert not any("cat" in value for value in labels)


def test_the_description_describes(server: Live) -> None:
    document = server.client.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator.check_schema(body)
    jsonschema.validate({"inputs": ["a", "b"]}, body)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"inputs": [3]}, body)
    for path, methods in document["paths"].items():
        for method in methods:
            said = server.client.request(
                method.upper(), path, json={"inputs": ["a"]} if method == "post" else None
            )
            assert str(said.status_code) in methods[method]["responses"]
    schemas = document["components"]["schemas"]
    answer = server.predict(["a"]).json()
    jsonschema.validate(
        answer, {"$ref": "#/components/schemas/Predictions", "components": {"schemas": schemas}}
    )


def test_the_page_has_nothing_from_elsewhere(server: Live) -> None:
    said = server.client.get("/docs")
    assert said.status_code == 200
    assert "default-src 'none'" in said.headers["content-security-policy"]
    for word in ("src=", "href=", "//cdn", "@import", "url("):
        assert word not in said.text
