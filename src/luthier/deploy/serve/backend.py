"""`Backend`: a loaded model as a server uses it: encodes inputs, computes batches of them, decodes.

What a folder holds and which backend is the faster lives in `opening`; when what is computed, in `batcher`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence

from luthier.deploy.serve.base import Refused
from luthier.deploy.serve.guard import is_text
from luthier.errors import LuthierError
from luthier.models.processor import Processor, TextProcessor
from luthier.monitor import statistics
from luthier.tasks.base import Batch, Task
from luthier.tasks.examples import open_image
from luthier.tasks.labels import MISSING

Inputs = dict[str, torch.Tensor]
Outputs = Sequence[np.ndarray]
Run = Callable[[Inputs, bool], tuple[Sequence[torch.Tensor], torch.Tensor | None]]

EXPECTED = {
    "text": "a text (a string)",
    "tokens": "a list of words (strings)",
    "image": "the bytes of an image file",
}
"""What an input has to be, by `Task.input_kind`."""


@dataclass(frozen=True)
class Reading:
    """How inputs become tensors; networks that read alike share one.

    Attributes:
        processor: Tokenizer or image processor.
        max_length: Tokens kept, or None for the model's limit.
        image_size: Side in pixels, or None for the model's own.
    """

    processor: Processor
    max_length: int | None = None
    image_size: int | None = None


@dataclass(frozen=True)
class Pass:
    """One network that is run.

    Attributes:
        reading: Place of its reading.
        parts: Places of the parts whose logits it gives; one, but for those that share a body.
        run: Inputs, and whether features are wanted, to the parts' logits and, where they were wanted and are
            to be had, to what the head read, (inputs, width); all float32 on the CPU.
    """

    reading: int
    parts: tuple[int, ...]
    run: Run


@dataclass(slots=True)
class Encoded:
    """One input, ready to be batched.

    Attributes:
        input: As it was given.
        rows: A batch of it alone for each reading, not padded.
        length: In tokens; 1 for images. Batches are of like length.
    """

    input: Any
    rows: list[Batch]
    length: int


@dataclass(frozen=True)
class Computed:
    """What the networks said of a batch.

    Attributes:
        outputs: One float32 array an input, as `Task.outputs` cuts them.
        features: (inputs, d) what the head read, in float32, where asked for and known.
    """

    outputs: list[np.ndarray]
    features: np.ndarray | None = None


@dataclass
class Limits:
    """The largest input that is accepted.

    Attributes:
        characters: Of a text, or of all words of a list.
        words: Of a list.
        pixels: Of an image, once it is decoded.
    """

    characters: int = 100_000
    words: int = 10_000
    pixels: int = 50_000_000


@dataclass
class Backend:
    """A loaded model. Its methods are for one thread at a time, except `check` and `statistics`.

    Attributes:
        name: ``torch``, or the export's format.
        task: Fitted.
        readings: See `Pass.reading`.
        passes: The networks.
        combined: Outputs of all parts to the model's own.
        tokens: Padded tokens a batch at most: beyond, a larger batch only takes longer.
        limits: Inputs beyond are refused.
    """

    name: str
    task: Task
    readings: list[Reading]
    passes: list[Pass]
    combined: Callable[[list[Outputs]], list[np.ndarray]]
    tokens: int = 4096
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self._columns = pd.Index([self.task.input])

    def check(self, given: Any) -> Refused | None:
        """Why an input cannot be answered, as far as that shows without decoding it."""
        kind, limits = self.task.input_kind, self.limits
        if kind == "text":
            return _check_text(given, limits.characters)
        if kind == "tokens":
            return _check_words(given, limits)
        return _check_image(given, limits.pixels)

    def encode(self, inputs: Sequence[Any]) -> list[Encoded | Refused]:
        """Encodes inputs, all in one call where none is at fault; a bad one is refused alone."""
        found: list[Encoded | Refused | None] = [self.check(given) for given in inputs]
        places = [place for place, refused in enumerate(found) if refused is None]
        try:
            encoded: Sequence[Encoded | Refused] = self._encode([inputs[place] for place in places])
        # Whatever is wrong with one of them must not be the others' fault.
        except Exception:
            encoded = [self._encode_alone(inputs[place]) for place in places]
        for place, one in zip(places, encoded, strict=True):
            found[place] = one
        return [one for one in found if one is not None]

    def compute(self, items: Sequence[Encoded], *, features: bool = False) -> Computed:
        """What the model says of encoded inputs, in one batch.

        Args:
            items: At least one.
            features: Whether what the head read is wanted.
        """
        batches = [self._collate([item.rows[at] for item in items], at) for at in range(len(self.readings))]
        parts: dict[int, Outputs] = {}
        read: torch.Tensor | None = None
        for network in self.passes:
            batch = batches[network.reading]
            # Of an ensemble, features are those of its first network, as in the reference.
            said, found = network.run(batch.inputs, features and 0 in network.parts)
            read = read if found is None else found
            for place, logits in zip(network.parts, said, strict=True):
                parts[place] = self.task.outputs(logits, batch)
        outputs = self.combined([parts[place] for place in range(len(parts))])
        return Computed(
            [np.asarray(output, dtype=np.float32) for output in outputs],
            None if read is None else read.numpy(),
        )

    def decode(self, outputs: Outputs, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """Answers as plain values; see `Task.decode`."""
        # Words alone are needed to say what was found in them.
        return self.task.decode(outputs, self._frame(inputs) if self.task.input_kind == "tokens" else None)

    def statistics(self, item: Encoded) -> dict[str, float]:
        """Numbers that describe an input; see `luthier.monitor.statistics`."""
        processor = self.readings[0].processor
        if isinstance(processor, TextProcessor):
            return statistics.of_tokens(item.rows[0].inputs["input_ids"][0].numpy(), processor)
        return statistics.of_image(open_image({"bytes": item.input}, ".", 1))

    def _encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        if not inputs:
            return []
        frame = self._frame(inputs)
        rows: list[list[Batch]] = [[] for _ in inputs]
        lengths = np.ones(len(inputs), dtype=np.int64)
        for reading in self.readings:
            examples = self.task.encode(
                frame, reading.processor, max_length=reading.max_length, image_size=reading.image_size
            )
            lengths = np.maximum(lengths, examples.lengths)
            for place, row in enumerate(rows):
                row.append(examples.batch(np.array([place])))
        return [Encoded(*parts) for parts in zip(inputs, rows, lengths.tolist(), strict=True)]

    def _encode_alone(self, given: Any) -> Encoded | Refused:
        try:
            return self._encode([given])[0]
        except LuthierError as error:
            what = error.message.removeprefix("Row 1: ").removeprefix("Row 1 ")
            return Refused(422, "input", f"The input cannot be read: {what}")
        # A tokenizer's or a decoder's own exception: it is the input's fault, and only this one's.
        except Exception as error:
            return Refused(422, "input", f"The input cannot be read: {type(error).__name__}.")

    def _frame(self, inputs: Sequence[Any]) -> pd.DataFrame:
        picture = self.task.input_kind == "image"
        cells = np.empty((len(inputs), 1), dtype=object)
        for place, given in enumerate(inputs):
            cells[place, 0] = {"bytes": given} if picture else given
        # A sixth of the time that a dict of lists takes, and a single text has to be encoded in microseconds.
        return pd.DataFrame(cells, columns=self._columns, dtype=object, copy=False)

    def _collate(self, rows: list[Batch], reading: int) -> Batch:
        """One batch of several, padded to the longest at the right."""
        if len(rows) == 1:
            return rows[0]
        fills = {"input_ids": getattr(self.readings[reading].processor, "pad_id", 0)}
        inputs = {
            name: _joined([row.inputs[name] for row in rows], fills.get(name, 0)) for name in rows[0].inputs
        }
        targets = [row.targets for row in rows]
        joined = _joined(targets, MISSING) if self.task.level == "token" else torch.cat(targets)
        return Batch(inputs, joined, np.arange(len(rows)))


def _joined(values: list[torch.Tensor], fill: int) -> torch.Tensor:
    if values[0].ndim != 2:
        return torch.cat(values)
    return pad_sequence([value[0] for value in values], batch_first=True, padding_value=fill)


# -- what is wrong with an input ---------------------------------------------------------------------------


def _wrong(kind: str, given: Any) -> Refused:
    names = {
        str: "a string",
        list: "a list",
        dict: "an object",
        bool: "a boolean",
        type(None): "null",
        bytes: "bytes",
    }
    found = names.get(type(given), "a number" if isinstance(given, int | float) else type(given).__name__)
    return Refused(422, "input", f"The input is {found}; expected {EXPECTED[kind]}.")


def _large(what: str, limit: int, status: int = 422) -> Refused:
    return Refused(status, "too_large", f"The input has more than {limit:,} {what}, which is the limit here.")


def _check_text(given: Any, characters: int) -> Refused | None:
    if not isinstance(given, str):
        return _wrong("text", given)
    if len(given) > characters:
        return _large("characters", characters)
    if not is_text(given):
        return Refused(422, "input", "The text holds half of a surrogate pair, which is no character.")
    return None


def _check_words(given: Any, limits: Limits) -> Refused | None:
    if not isinstance(given, list | tuple):
        return _wrong("tokens", given)
    if not all(isinstance(word, str) for word in given):
        return Refused(422, "input", "The list has something else than strings; expected a list of words.")
    if len(given) > limits.words:
        return _large("words", limits.words)
    if sum(map(len, given)) > limits.characters:
        return _large("characters", limits.characters)
    if not all(map(is_text, given)):
        return Refused(422, "input", "A word holds half of a surrogate pair, which is no character.")
    return None


def _check_image(given: Any, pixels: int) -> Refused | None:
    if not isinstance(given, bytes):
        return _wrong("image", given)
    try:
        # Reads the header alone: what would be decoded is known before it is.
        with Image.open(io.BytesIO(given)) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        return _large("pixels", pixels, 413)
    # Pillow's readers raise whatever a damaged header makes them raise.
    except Exception:
        return Refused(422, "input", "The input is not a picture in a known format.")
    return _large("pixels", pixels, 413) if width * height > pixels else None
