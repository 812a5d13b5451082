"""What one writes by hand: a FastAPI handler around a text classifier, under uvicorn with uvloop and
httptools. Run by an interpreter that has them, as ``fastapi_text.py PORT MODEL THREADS``.

The handler computes on the event loop, one text at a time: in a thread pool, as FastAPI runs plain functions,
requests fight over the cores that torch already uses, and each pays for the way there and back.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from text_model import TextModel

PORT, FOLDER, THREADS = sys.argv[1:]


class Request(BaseModel):
    """What is asked."""

    inputs: str


app = FastAPI()
model = TextModel(FOLDER, int(THREADS), 1)


@app.post("/predict")
async def predict(request: Request) -> dict[str, Any]:
    """The label, its probability, and those of all."""
    return model.answers([request.inputs])[0]


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(PORT), log_level="warning", access_log=False)
