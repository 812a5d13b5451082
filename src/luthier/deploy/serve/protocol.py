"""The Open Inference Protocol, version 2, over HTTP: tensors to inputs, and answers to tensors.

The specification is kserve/open-inference-protocol's; its extension for binary tensor data is read, since
Triton's client sends it by default. Texts are BYTES; an image is the BYTES of its file (base64 in JSON); a
list of words is a row of a BYTES tensor of two axes, or an element that holds a JSON list.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as version_of
from typing import Any

from luthier.deploy.serve.base import Answer, Refused
from luthier.deploy.serve.guard import Bounds, is_text, parse_json
from luthier.deploy.serve.inputs import check_count, from_base64

HEAD = b"inference-header-content-length"
"""Bytes of JSON before binary tensor data."""
DATATYPES = {"text": "BYTES", "tokens": "BYTES", "image": "BYTES"}


@dataclass(frozen=True)
class Call:
    """An inference request.

    Attributes:
        inputs: As `luthier.deploy.serve.base.Answers.answer` takes them; a `Refused` stands for one that is
            none.
        id: The client's, given back.
        outputs: Names of the tensors wanted; empty: all.
    """

    inputs: list[Any]
    id: str | None = None
    outputs: tuple[str, ...] = ()


def server() -> dict[str, Any]:
    """What ``GET /v2`` says."""
    return {"name": "luthier", "version": version_of("luthier"), "extensions": ["binary_tensor_data"]}


def model(about: Mapping[str, Any], version: str | None = None) -> dict[str, Any]:
    """What ``GET /v2/models/NAME`` says, from `luthier.deploy.serve.base.Answers.metadata`."""
    kind = str(about.get("input", "text"))
    shape = [-1, -1] if kind == "tokens" else [-1]
    return {
        "name": about["name"],
        "versions": list(about["versions"]) if version is None else [version],
        "platform": f"luthier_{about.get('backend', 'model')}",
        "inputs": [{"name": kind, "datatype": DATATYPES.get(kind, "BYTES"), "shape": shape}],
        "outputs": [
            {"name": "id", "datatype": "BYTES", "shape": [-1]},
            *about.get("outputs", []),
            {"name": "answer", "datatype": "BYTES", "shape": [-1]},
        ],
    }


def read(body: bytes, head: bytes | None, expects: str, bounds: Bounds) -> Call:
    """An inference request from a body.

    Args:
        body: All of it.
        head: The value of `HEAD`, where binary data follow the JSON.
        expects: ``text``, ``tokens`` or ``image``.
        bounds: Sizes.

    Raises:
        Refused: It is not of the protocol's form.
    """
    binary = b""
    if head is not None:
        if not head.isdigit() or len(head) > 12 or int(head) > len(body):
            raise _wrong("Inference-Header-Content-Length is not the length of the JSON.")
        body, binary = body[: int(head)], body[int(head) :]
    value = parse_json(body, bounds.depth)
    if not isinstance(value, dict) or not isinstance(tensors := value.get("inputs"), list):
        raise _wrong('The body must be an object with a list of tensors, "inputs".')
    if len(tensors) != 1 or not isinstance(tensors[0], dict):
        raise _wrong(f"Expected one input tensor, {expects}.")
    name = value.get("id")
    # It is given back, and half of a surrogate pair cannot be.
    if name is not None and not (isinstance(name, str) and len(name) <= 256 and is_text(name)):
        raise _wrong("The id must be a string of at most 256 characters.")
    inputs = _elements(tensors[0], binary, expects, bounds)
    return Call(inputs, name, _wanted(value.get("outputs")))


def written(call: Call, answers: Sequence[Answer | Refused], about: Mapping[str, Any]) -> dict[str, Any]:
    """The response's JSON values.

    Raises:
        Refused: One of the inputs got no answer: a tensor has no place for that.
    """
    for place, one in enumerate(answers):
        if isinstance(one, Refused):
            raise Refused(one.status, one.code, f"Input {place}: {one.message}", one.retry_after)
    said = [one for one in answers if isinstance(one, Answer)]
    tensors = [
        {"name": "id", "datatype": "BYTES", "shape": [len(said)], "data": [one.id for one in said]},
        *fields([one.value for one in said]),
        {
            "name": "answer",
            "datatype": "BYTES",
            "shape": [len(said)],
            "data": [json.dumps(one.value, ensure_ascii=False) for one in said],
        },
    ]
    if call.outputs:
        known = {str(tensor["name"]): tensor for tensor in tensors}
        missing = [name for name in call.outputs if name not in known]
        if missing:
            raise _wrong(f"There is no such output; the outputs are {', '.join(known)}.")
        tensors = [known[name] for name in call.outputs]
    response = {
        "model_name": about["name"],
        "model_version": said[0].version if said else "",
        "outputs": tensors,
    }
    return response if call.id is None else {**response, "id": call.id}


def fields(values: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A tensor for each member of the answers that is a text, a number, or numbers by name; what else they
    hold is in ``answer`` alone."""
    tensors: list[dict[str, Any]] = []
    for name in values[0] if values else ():
        if name in ("id", "answer") or any(name not in value for value in values):
            continue
        column = [value[name] for value in values]
        if all(isinstance(one, str) for one in column):
            tensors.append({"name": name, "datatype": "BYTES", "shape": [len(column)], "data": column})
        elif all(_is_number(one) for one in column):
            tensors.append({"name": name, "datatype": "FP64", "shape": [len(column)], "data": column})
        elif (keys := _numbers_by_name(column)) is not None:
            data = [one[key] for one in column for key in keys]
            tensors.append(
                {"name": name, "datatype": "FP64", "shape": [len(column), len(keys)], "data": data}
            )
    return tensors


def columns(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What `fields` makes of answers like this one, as `model` tells it: shapes with -1 for the inputs."""
    return [
        {"name": tensor["name"], "datatype": tensor["datatype"], "shape": [-1, *tensor["shape"][1:]]}
        for tensor in fields([value])
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers_by_name(column: Sequence[Any]) -> list[str] | None:
    if not all(isinstance(one, dict) and one and all(map(_is_number, one.values())) for one in column):
        return None
    keys = list(column[0])
    return keys if all(list(one) == keys for one in column) else None


def _wanted(outputs: Any) -> tuple[str, ...]:
    if outputs is None:
        return ()
    names = (
        [one.get("name") if isinstance(one, dict) else None for one in outputs]
        if isinstance(outputs, list)
        else [None]
    )
    if not all(isinstance(name, str) for name in names) or len(names) > 64:
        raise _wrong('"outputs" must be a list of objects with a name.')
    return tuple(str(name) for name in names)


def _elements(tensor: Mapping[str, Any], binary: bytes, expects: str, bounds: Bounds) -> list[Any]:
    shape = tensor.get("shape")
    if tensor.get("datatype") != "BYTES":
        raise _wrong("The input tensor must be of the datatype BYTES.")
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= 2
        or not all(
            isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**31 for size in shape
        )
    ):
        raise _wrong("The input tensor needs a shape of one or two axes.")
    check_count(shape[0], bounds)
    parameters = tensor.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is not None:
        flat = _unpacked(binary, size)
        found: list[Any] = [one if expects == "image" else _text(one) for one in flat]
    else:
        found = _flat(tensor.get("data"))
        if expects == "image":
            found = [from_base64(one) for one in found]
    count = shape[0] if len(shape) == 1 else shape[0] * shape[1]
    if len(found) != count:
        raise _wrong(f"The input tensor's shape says {count} elements, its data have {len(found)}.")
    if expects == "tokens":
        return _word_lists(found, shape)
    if len(shape) == 2 and shape[1] != 1:
        raise _wrong("The input tensor must have one element an input.")
    return found


def _flat(data: Any) -> list[Any]:
    """Elements in row-major order; the protocol allows nested lists, too."""
    if not isinstance(data, list):
        raise _wrong("The input tensor has no data.")
    if data and all(isinstance(row, list) for row in data):
        return [one for row in data for one in row]
    return data


def _word_lists(found: list[Any], shape: Sequence[int]) -> list[Any]:
    if len(shape) == 2:
        width = shape[1]
        # Rows of a tensor are equally long: shorter lists are filled up with empty words.
        rows = (
            [found[start : start + width] for start in range(0, len(found), width)]
            if width
            else [[]] * shape[0]
        )
        return [_without_end(row) for row in rows]
    return [_parsed(one) for one in found]


def _without_end(row: list[Any]) -> list[Any]:
    while row and row[-1] == "":
        row = row[:-1]
    return row


def _parsed(one: Any) -> Any:
    try:
        return json.loads(one) if isinstance(one, str) else one
    except (ValueError, RecursionError):
        return Refused(422, "input", "The element is no JSON list of words.")


def _unpacked(binary: bytes, size: Any) -> list[bytes]:
    """BYTES elements: each is its length in four bytes, little-endian, and then itself."""
    if isinstance(size, bool) or not isinstance(size, int) or size != len(binary):
        raise _wrong("binary_data_size is not the size of the data after the JSON.")
    found, at = [], 0
    while at < len(binary):
        if at + 4 > len(binary):
            raise _wrong("The binary data end within an element.")
        (length,) = struct.unpack_from("<I", binary, at)
        at += 4 + length
        if at > len(binary):
            raise _wrong("The binary data end within an element.")
        found.append(binary[at - length : at])
    return found


def _text(data: bytes) -> str | Refused:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Refused(422, "input", "The element is not UTF-8.")


def _wrong(message: str) -> Refused:
    return Refused(422, "tensor", message)
