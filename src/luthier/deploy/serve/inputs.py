"""The inputs in a body: JSON, a form with files, or the file itself. The Open Inference Protocol's tensors
live in `protocol`."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from luthier.deploy.serve.base import Refused
from luthier.deploy.serve.guard import Bounds, parse_json

MEMBERS = ("inputs", "version", "timeout")
"""What the JSON of a request may hold."""
RAW = (b"application/octet-stream", b"image/")


@dataclass(frozen=True)
class Asked:
    """What a request asks.

    Attributes:
        inputs: As `luthier.deploy.serve.base.Answers.answer` takes them; a `Refused` stands for one that is
            none.
        version: The version asked for, or None.
        timeout: Seconds that the client would wait, or None.
    """

    inputs: list[Any]
    version: str | None = None
    timeout: float | None = None


def read(body: bytes, kind: bytes, expects: str, bounds: Bounds) -> Asked:
    """What a body asks.

    Args:
        body: All of it.
        kind: Content-Type.
        expects: ``text``, ``tokens`` or ``image``.
        bounds: Sizes.

    Raises:
        Refused: It cannot be read.
    """
    media = kind.partition(b";")[0].strip().lower()
    if media == b"application/json":
        asked = from_json(parse_json(body, bounds.depth), expects)
    elif expects == "image" and media == b"multipart/form-data":
        asked = Asked(_files(body, kind, bounds))
    elif expects == "image" and media.startswith(RAW):
        asked = Asked([body])
    else:
        more = ", multipart/form-data with files, or an image" if expects == "image" else ""
        raise Refused(415, "content_type", f"The Content-Type must be application/json{more}.")
    check_count(len(asked.inputs), bounds)
    return asked


def check_count(count: int, bounds: Bounds) -> None:
    """Raises Refused where a request has no inputs or too many."""
    if not count:
        raise Refused(422, "no_inputs", "The request has no inputs.")
    if count > bounds.inputs:
        raise Refused(
            413, "too_many", f"The request has {count:,} inputs; {bounds.inputs:,} are the limit here."
        )


def from_json(value: Any, expects: str) -> Asked:
    """What a JSON body asks.

    Raises:
        Refused: It is not of the form ``{"inputs": [...]}``.
    """
    if not isinstance(value, dict) or "inputs" not in value:
        raise Refused(422, "body", 'The body must be an object with inputs: {"inputs": [...]}.')
    if len(value) > 1 and (unknown := sorted(set(value) - set(MEMBERS))):
        raise Refused(
            422, "body", f"The body has {len(unknown)} unknown members; known: {', '.join(MEMBERS)}."
        )
    given = value["inputs"]
    inputs = given if isinstance(given, list) else [given]
    if expects == "image":
        inputs = [from_base64(one) for one in inputs]
    return Asked(inputs, _version(value.get("version")), _timeout(value.get("timeout")))


def from_base64(given: Any) -> bytes | Refused:
    """The bytes of an image in JSON, or why there are none."""
    if not isinstance(given, str):
        return Refused(422, "input", "The input is no string; expected an image file in base64.")
    try:
        return base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        return Refused(422, "input", "The input is not base64; expected an image file in base64.")


def _version(given: Any) -> str | None:
    if given is None or (isinstance(given, str) and 0 < len(given) <= 64):
        return given
    raise Refused(422, "body", "The version must be a string.")


def _timeout(given: Any) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= 1e6:
        raise Refused(422, "body", "The timeout must be a number of seconds above 0.")
    return float(given)


def _files(body: bytes, kind: bytes, bounds: Bounds) -> list[bytes]:
    """The files of a form, in their order; its other fields are passed over."""
    from python_multipart import MultipartParser
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import parse_options_header

    _, options = parse_options_header(kind)
    boundary = options.get(b"boundary")
    if not boundary:
        raise Refused(400, "form", "The form's Content-Type names no boundary.")
    form = _Form(bounds.inputs)
    try:
        parser = MultipartParser(boundary, form.callbacks(), max_size=bounds.body)
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError):
        raise Refused(400, "form", "The form cannot be read.") from None
    if not form.ended:
        raise Refused(400, "form", "The form ends within a part.")
    return [bytes(file) for file in form.files]


class _Form:
    """Collects the files of a form."""

    def __init__(self, most: int) -> None:
        self.files: list[bytearray] = []
        self.ended = False
        self._most = most
        self._name = self._value = b""
        self._file: bytearray | None = None

    def callbacks(self) -> Any:
        """As python-multipart takes them."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._file = None

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header(self) -> None:
        disposition = self._name.lower() == b"content-disposition"
        if disposition and b"filename" in self._value and self._file is None:
            if len(self.files) == self._most:
                raise Refused(413, "too_many", f"The form has more than {self._most:,} files.")
            self._file = bytearray()
            self.files.append(self._file)
        self._name = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file += data[start:end]

    def _end(self) -> None:
        self.ended = True
