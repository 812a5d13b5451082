"""The model card: a README.md in the hub's format, with the metadata that hubs read and a text that people
do."""

from __future__ import annotations

import math
import re
from typing import Any

import jinja2
import yaml

from luthier.evaluate.slices import Slice
from luthier.report import words
from luthier.report.story import Story
from luthier.report.view import continued, results

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~!&$])")


def render(story: Story) -> str:
    """The whole card; names and texts from the user are escaped as Markdown."""
    # Not HTML: the template escapes by `text` and `fence`.
    environment = jinja2.Environment(  # nosec B701
        loader=jinja2.PackageLoader("luthier.report", "templates"),
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"text": text, "fence": fence}
    body: str = environment.get_template("card.md").render(
        story=story,
        evaluation=story.evaluation,
        words=words,
        front=front_matter(story),
        verdicts=[one for part in results.verdicts(story) for one in part],
        gravities=results.GRAVITIES,
        worse=worse_slices(story),
        continued=continued.rows(story),
        continued_told=continued.sentences(story),
    )
    return re.sub(r"\n{3,}", "\n\n", body).rstrip() + "\n"


def front_matter(story: Story) -> str:
    """The card's metadata as YAML, in the names that hubs read."""
    values: dict[str, Any] = {
        "language": story.model.languages or None,
        "license": story.model.license or "unknown",
        "library_name": story.model.library,
        "pipeline_tag": story.model.pipeline_tag or None,
        "base_model": story.model.hub_id if _HUB_ID.fullmatch(story.model.hub_id) else None,
        "datasets": [story.dataset.hub_id] if _HUB_ID.fullmatch(story.dataset.hub_id) else None,
        "tags": ["luthier", story.task],
        "metrics": [story.metric],
        "model-index": [_model_index(story)],
    }
    known = {name: value for name, value in values.items() if value is not None}
    return yaml.safe_dump(known, sort_keys=False, allow_unicode=True).rstrip()


def text(value: Any) -> str:
    """One line of Markdown that shows ``value`` as it is: no markup, no line breaks, no table cells."""
    line = " ".join(str(value).split())
    return _SPECIAL.sub(
        lambda match: {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(match[0], f"\\{match[0]}"), line
    )


def fence(code: str, language: str = "") -> str:
    """A fenced block that the code inside cannot end."""
    longest = max((len(run) for run in re.findall(r"`{3,}", code)), default=2)
    marks = "`" * (longest + 1)
    return f"{marks}{language}\n{code.rstrip()}\n{marks}"


def worse_slices(story: Story) -> list[Slice]:
    """Parts of the test split on which the model is clearly worse."""
    return [one for one in story.evaluation.slices if one.worse]


def _model_index(story: Story) -> dict[str, Any]:
    """Test metrics as hubs list them, then those of each part that is clearly worse; metrics without a value
    are left out."""
    evaluation = story.evaluation
    metrics = [_metric(name, value) for name, value in evaluation.metrics.items() if math.isfinite(value)]
    if evaluation.calibration and math.isfinite(evaluation.calibration.error):
        metrics.append(_metric("expected_calibration_error", evaluation.calibration.error))
    parts = [
        _result(
            story,
            f"{story.dataset.name} ({words.plain_name(one.kind)}: {one.name})",
            [_metric("recall" if one.kind == "class" else story.metric, one.value)],
        )
        for one in worse_slices(story)
        if math.isfinite(one.value)
    ]
    return {"name": story.run, "results": [_result(story, story.dataset.name, metrics), *parts]}


def _metric(name: str, value: float) -> dict[str, Any]:
    return {"type": name, "name": words.plain_name(name), "value": round(float(value), 6)}


def _result(story: Story, dataset: str, metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """One entry of the model index."""
    return {
        "task": {"type": story.model.pipeline_tag or story.task, "name": words.plain_name(story.task)},
        "dataset": {"name": dataset, "type": story.dataset.name, "split": "test"},
        "metrics": metrics,
    }
