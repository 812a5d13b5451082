"""A small case for each built-in task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tasks_fakes import (
    CharacterProcessor,
    SquareProcessor,
    image_frame,
    multi_frame,
    regression_frame,
    text_frame,
    token_frame,
)

from luthier.tasks.conformance import Case
from luthier.tasks.image_classification import ImageClassification
from luthier.tasks.multi_label import MultiLabelClassification
from luthier.tasks.text_classification import TextClassification
from luthier.tasks.text_regression import TextRegression
from luthier.tasks.token_classification import TokenClassification

TASKS = ("text", "tokens", "lists", "joined", "flags", "regression", "image")


@pytest.fixture(params=TASKS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    text = CharacterProcessor()
    if request.param == "text":
        frame = text_frame()
        return Case(TextClassification, frame, frame[:7].reset_index(drop=True), text)
    if request.param == "tokens":
        frame = token_frame()
        return Case(TokenClassification, frame, frame[:5], text)
    if request.param == "regression":
        frame = regression_frame()
        return Case(TextRegression, frame, frame[:7], text)
    if request.param == "image":
        frame = image_frame(tmp_path)
        return Case(
            ImageClassification, frame, frame[:5], SquareProcessor(), modality="image", root=str(tmp_path)
        )
    frame = multi_frame()
    if request.param == "joined":
        frame = frame.assign(labels=[";".join(row) or None for row in frame["labels"]])
    if request.param == "flags":
        flags = {name: [float(name in row) for row in frame["labels"]] for name in ("food", "music", "sport")}
        frame = frame.drop(columns="labels").assign(**flags)
    test = frame[:5].copy()
    if request.param == "flags":
        test.loc[1, "music"] = np.nan
    return Case(MultiLabelClassification, frame, test, text)
