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
        "Verdict",
        "What it does",
        "How to use it",
        "Data",
        "Metrics",
        "Calibration",
        "Where it does worse",
        "Baselines",
        "Ensembles",
        "Limits",
        "How it was made",
    ):
        assert f"\n## {title}\n" in text
    assert "0.950 to 0.980" in text
    assert (
        "| TF-IDF + logistic regression | 0.890 | 0.862 to 0.916 | +0.076 | +0.052 to +0.102 | &lt; 0.0001 |"
        in text
    )
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


def test_it_tells_the_same_as_the_report() -> None:
    story = made_story()
    text = card.render(story)
    assert "**Not to be relied on as it is: 1 fault, and 1 thing that could be better.**" in text
    assert "- Fault: Some test texts are in the training data. 11 of 500" in text
    assert "Next: Run again with --drop-leaks." in text and card.text(story.evaluation.worth) in text
    assert "off by 0.014 (expected calibration error, 95% interval 0.008 to 0.029)" in text
    assert "divided by 1.42, as fitted on validation; without that it would be off by 0.037" in text
    assert "| class: location | recall | 0.890 |" in text and "class: human" not in text
    assert "| greedy | +0.006 | +0.001 to +0.011 | +0.002 | −0.006 to +0.010 | 2.9× | yes |" in text
    assert "Twice the training rows (9,268) may take accuracy from 0.934 to 0.949" in text
    assert "74 rows of the data (1.2% of those looked at) carry a label that is likely wrong" in text


def test_hubs_read_calibration_and_the_parts_that_are_clearly_worse() -> None:
    results = ModelCard(card.render(made_story())).data.eval_results
    assert results is not None
    told = {(one.dataset_name, one.metric_type): one.metric_value for one in results}
    assert told["trec6", "expected_calibration_error"] == 0.014
    assert told["trec6 (class: location)", "recall"] == 0.89
    assert len({name for name, _ in told}) == 2


def test_where_nothing_was_looked_at_nothing_is_said() -> None:
    story = made_story()
    evaluation = story.evaluation
    story.diagnosis, evaluation.calibration, evaluation.slices = [], None, evaluation.slices[:2]
    evaluation.combined, evaluation.suspects, evaluation.sizes = [], None, None
    text = card.render(story)
    assert not any(f"## {title}" in text for title in ("Verdict", "Calibration", "Ensembles"))
    assert "On none of the 2 parts of the test split that were looked at is it clearly worse" in text
    assert "likely wrong" not in text and "Twice" not in text
