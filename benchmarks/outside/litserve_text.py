"""LitServe around a text classifier, with its own batching. Run by an interpreter that has ``litserve``, and
by nothing else, as ``litserve_text.py PORT MODEL THREADS BATCH TIMEOUT PART``.

One worker, as ours has one that computes. A batch is tokenised in one call, and computed in parts of like
length (see `text_model`), PART texts each. BATCH 1 is LitServe as it is without being told of batches. Its
worker gathers for TIMEOUT seconds: with 0 it asks the queue without a pause, which takes one of few cores
from torch.
"""

from __future__ import annotations

import sys
from typing import Any

import litserve
from text_model import TextModel

PORT, FOLDER, THREADS, BATCH, TIMEOUT, PART = sys.argv[1:]


class Classifier(litserve.LitAPI):
    """Texts in, labels and probabilities out."""

    def setup(self, device: str) -> None:
        """Loads the model, in the process that computes."""
        self.model = TextModel(FOLDER, int(THREADS), int(PART))

    # LitServe makes an endpoint's signature of the annotations, and of a dict's a query.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """The text."""
        return str(request["inputs"])

    def batch(self, inputs: list[str]) -> list[str]:
        """As they are: the tokenizer pads."""
        return inputs

    def predict(self, inputs: list[str] | str) -> Any:
        """Of a batch, or of one text where there are no batches."""
        if isinstance(inputs, str):
            return self.model.answers([inputs])[0]
        return self.model.answers(inputs)

    def unbatch(self, outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One an input already."""
        return outputs

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Plain values already."""
        return output


if __name__ == "__main__":
    api = Classifier(max_batch_size=int(BATCH), batch_timeout=float(TIMEOUT))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(
        host="127.0.0.1", port=int(PORT), num_api_servers=1, generate_client_file=False,
        log_level="warning", access_log=False,
    )  # fmt: skip
