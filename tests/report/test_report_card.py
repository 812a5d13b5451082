from __future__ import annotations

import yaml
from huggingface_hub import ModelCard
from report_stories import HOSTILE, bare_story, hostile_story, made_story

from luthier.report import card


def test_hubs_read_its_metadata() -> None:
    data = ModelCard(card.render(made_story())).data
    assert data.license == "apache-2.0"
    assert data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert data.pipeline_tag == "text-classification" and data.datasets == ["someone/trec6"]
    assert data.eval_results is not None
    first = data.eval_results[0]
    assert (first.metric_type, first.metric_value, first.dataset_name) == ("accuracy", 0.966, "trec6")


def test_people_find_every_section() -> None:
    text = card.render(made_story())
    for title in (
        "What it does",
        "How to use it",
        "Data",
        "Metrics",
        "Baselines",
        "Limits",
        "How it was made",
    ):
        assert f"\n## {title}\n" in text
    assert "0.950 to 0.980" in text
    assert "| TF-IDF + logistic regression | 0.890 | 0.862 to 0.916 | +0.076 | +0.052 to +0.102 |" in text
    assert "11 test texts also occur in train" in text
    assert "```python\nfrom transformers import pipeline" in text


def test_what_is_unknown_is_said_or_left_out() -> None:
    text = card.render(bare_story())
    values = yaml.safe_load(text.split("---")[1])
    assert values["license"] == "unknown"
    assert not {"base_model", "datasets", "pipeline_tag", "language"} & set(values)
    assert [metric["type"] for metric in values["model-index"][0]["results"][0]["metrics"]] == ["rmse"]
    assert "## Baselines" not in text and "interrupted" in text


def test_a_local_path_is_never_given_as_an_id() -> None:
    story = made_story()
    story.model.hub_id, story.dataset.hub_id = "/home/me/model", "../data"
    values = yaml.safe_load(card.render(story).split("---")[1])
    assert not {"base_model", "datasets"} & set(values)


def test_hostile_texts_are_no_markup() -> None:
    text = card.render(hostile_story())
    assert ModelCard(text).data.eval_results
    body = text.split("\n---\n", 1)[1]
    outside = []
    fenced = ""
    for line in body.splitlines():
        mark = line[: len(line) - len(line.lstrip("`"))]
        if len(mark) >= 3 and (not fenced or line == fenced):
            fenced = "" if fenced else mark
        elif not fenced:
            outside.append(line)
    assert not fenced
    assert not any("<script" in line or "<img" in line or "<b>" in line for line in outside)


def test_text_keeps_to_one_line_and_one_cell() -> None:
    assert card.text("a|b\n# c *d* <e> [f](g)") == "a\\|b \\# c \\*d\\* &lt;e&gt; \\[f\\](g)"
    assert card.fence("x\n````\ny") == "`````\nx\n````\ny\n`````"
    assert HOSTILE[5] in card.text(HOSTILE[5])
