from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from report_stories import HOSTILE, bare_story, hostile_story, made_story, weighed_story

from luthier.evaluate.evaluation import WorstError
from luthier.report import html, words
from luthier.report.view import results, trials, trust
from luthier.report.view.charts import charts


class Page(HTMLParser):
    """Elements, attributes and texts of a page, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.blocks: list[str] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = tag
            self.blocks.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.blocks[-1] += data
        else:
            self.words.append(data)


@pytest.fixture(scope="module")
def usual() -> str:
    return html.render(made_story())


def test_what_stands_between_backticks_is_set_as_code_and_nothing_else_is_markup() -> None:
    said = html.code("Keep `epochs` few; see `<b>` and 1 < 2 ` alone")
    assert said == "Keep <code>epochs</code> few; see <code>&lt;b&gt;</code> and 1 &lt; 2 ` alone"


def test_the_verdict_comes_first(usual: str) -> None:
    text = " ".join(Page(usual).words).split("Skip to the verdict")[1]
    order = [
        "fine-tuned for text classification",
        "Not to be relied on as it is: 1 fault, and 1 thing that could be better.",
        "Some test texts are in the training data",
        "Run again with --drop-leaks.",
        "It was still getting better",
        "No overfitting",
        "accuracy on the test split",
        "0.950 to 0.980",
        "Fine-tuning was worth it",
        "better by 0.076",
        "Against the baselines",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


def test_nothing_is_loaded_from_elsewhere(usual: str) -> None:
    page = Page(usual)
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "base")
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
        assert "style" not in attributes and not any(name.startswith("on") for name in attributes)
    assert "url(" not in page.blocks[0] and "@import" not in page.blocks[0]


def test_the_policy_allows_exactly_the_blocks_of_the_page(usual: str) -> None:
    page = Page(usual)
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none'") and "unsafe" not in policy
    style, _, *scripts = page.blocks
    hashes = [
        base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() for block in (style, *scripts)
    ]
    assert sorted(re.findall(r"sha256-([\w+/=]+)", policy)) == sorted(hashes)


def test_the_vendored_script_cannot_end_its_element() -> None:
    folder = files("luthier.report") / "vendor"
    script, told = (folder / "echarts.min.js").read_bytes(), (folder / "README.md").read_text()
    assert b"</script" not in script.lower()
    assert f"sha256 {hashlib.sha256(script).hexdigest()}" in told and "6.1.0" in told
    licenses = ("LICENSE", "NOTICE", *(f"licenses/LICENSE-{name}" for name in ("zrender", "tslib", "d3")))
    assert all((folder / name).is_file() for name in licenses)
    assert len(script) < 620_000


def test_hostile_texts_stay_texts() -> None:
    text = html.render(hostile_story())
    page, plain = Page(text), Page(html.render(made_story()))
    assert [tag for tag, _ in page.elements].count("script") == 2 + len(html.SCRIPTS)
    assert [block[:200] for block in page.blocks[2:]] == [block[:200] for block in plain.blocks[2:]]
    assert not any("onerror" in attributes for _, attributes in page.elements)
    shown = " ".join(page.words)
    assert all(part in shown for part in (HOSTILE[0], HOSTILE[1], HOSTILE[2], "\U0001f3bb violin"))
    data = json.loads(page.blocks[1])
    assert data["baselines"][0]["name"].startswith(HOSTILE[0])
    assert "\x00" not in text


def test_json_blocks_cannot_end_their_element() -> None:
    block = html.json_block({"a": "</script><!--", "b": "\u2028&"})
    assert not set(block) & set("<>&\u2028")
    assert json.loads(block) == {"a": "</script><!--", "b": "\u2028&"}


def test_a_thousand_trials_stay_under_two_megabytes() -> None:
    story = made_story(1000, [f"intent number {i}" for i in range(77)])
    text = html.render(story)
    assert len(text.encode()) < 2_000_000
    shown = json.loads(Page(text).blocks[1])["trials"]
    scored = int(story.trials["score"].notna().sum())
    assert len(shown["number"]) == len(shown["axes"][0]["values"]) == scored
    assert "16 classes with the most errors; 61 others are left out" in text


def test_a_bare_run_has_a_page(tmp_path: Path) -> None:
    text = " ".join(Page(html.render(bare_story())).words)
    assert "interrupted" in text and "lower is better" in text and "cannot be said yet" in text
    assert "0.710" in text and "nan" not in text.lower().replace("finance", "")


def test_every_chart_has_a_label_and_its_numbers_in_a_table(usual: str) -> None:
    charts = [a for _, a in Page(usual).elements if "data-chart" in a]
    assert {a["data-chart"] for a in charts} == {
        "baselines", "costs", "loss", "score", "importance", "parallel", "calibration", "sizes",
        *(f"along{i}" for i in range(6)),
    }  # fmt: skip
    assert all(a["role"] == "img" and "table" in (a["aria-label"] or "") for a in charts)


def test_where_more_than_scores_counts_each_of_it_has_a_chart_and_a_column() -> None:
    story = weighed_story()
    text = html.render(story)
    points = json.loads(Page(text).blocks[1])["trials"]
    assert [cost["name"] for cost in points["costs"]] == [
        "latency, ms", "size, MB", "training time, s", "peak memory, MB", "trained parameters, M",
    ]  # fmt: skip
    latency, size, *_ = points["costs"]
    assert (latency["limit"], size["limit"], latency["joint"]) == (20.0, None, True)
    # Refused trials have no score, and so no place.
    scored = story.trials["score"].notna()
    assert len(latency["values"]) == len(size["values"]) == int(scored.sum())
    assert {latency["values"][place] for place in latency["front"]} == {3.25, 9.5}
    assert [points["number"][place] for place in points["chosen"]] == [str(story.best.trial)]
    header, rows = trials.top_trials(story)
    assert header[2:8] == ["Seconds", "Epochs", "Peak memory", "Trained", "Latency, ms", "Size, MB"]
    assert {row["cells"][5] for row in rows} == {"3.25", "9.5"}
    assert sum(row["front"] for row in rows) == 2
    shown = section(text, "trials")
    assert "none is beaten in accuracy, latency and size at once" in shown
    assert shown.count("front ") >= 2 and "latency 31 ms, more than the 20 ms allowed (8×)" in shown


def test_where_only_scores_count_no_front_of_objectives_is_spoken_of(usual: str) -> None:
    points = json.loads(Page(usual).blocks[1])["trials"]
    assert not any(cost["joint"] for cost in points["costs"]) and "at once" not in section(usual, "trials")
    assert not any(row["front"] for row in trials.top_trials(made_story())[1])


def test_a_minimised_metric_is_shown_against_the_axes_as_it_is() -> None:
    story = weighed_story()
    story.maximize, story.metric = False, "rmse"
    story.trials["score"] = -story.trials["score"]
    assert all(score > 0 for score in charts(story)["trials"]["score"])


@given(
    st.lists(st.tuples(st.sampled_from([1.0, 2.0, 3.0, np.nan]), st.integers(0, 4)), min_size=1, max_size=12)
)
def test_a_front_holds_what_no_other_trial_beats(points: list[tuple[float, int]]) -> None:
    values, scores = np.array([x for x, _ in points]), np.array([y for _, y in points], dtype=float)
    front = trials.pareto(values, scores)
    for place in front:
        dearer = (values <= values[place]) & (scores >= scores[place])
        assert not (dearer & ((values < values[place]) | (scores > scores[place]))).any()
    for place in np.flatnonzero(np.isfinite(values)):
        beaten = any(values[one] <= values[place] and scores[one] >= scores[place] for one in front)
        assert place in front or beaten


def test_worst_errors_of_images_are_pictures_from_the_root_only(tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    for path in (root / "in.png", tmp_path / "out.png"):
        Image.fromarray(np.zeros((300, 200, 3), dtype=np.uint8)).save(path)
    (root / "broken.png").write_bytes(b"no image")
    story = made_story()
    names = ["in.png", "../out.png", "broken.png", "absent.png", str(tmp_path / "out.png")]
    story.evaluation.worst = [WorstError(i, name, "a", "b", 0.5, 1.0) for i, name in enumerate(names)]
    assert html.thumbnails("", names) == {}
    assert list(html.thumbnails(str(root), [*names, "nul\x00", "long" * 200])) == [0]
    story.image_root = str(root)
    assert story.evaluation.suspects is not None
    story.evaluation.suspects.rows[0].input = "in.png"
    text = html.render(story)
    assert section_source(text, "errors").count('src="data:image/jpeg;base64,') == 1
    assert section_source(text, "suspects").count('src="data:image/jpeg;base64,') == 1


def section_source(text: str, name: str) -> str:
    found = re.search(rf'<section [^>]*id="{name}"', text)
    assert found is not None
    return text[found.start() :].split("</section>")[0]


def section(text: str, name: str) -> str:
    """The words of one section of a page."""
    return " ".join(Page(section_source(text, name)).words)


def test_what_wants_something_done_stands_out_and_notes_do_not(usual: str) -> None:
    story = made_story()
    (_, warning), (_, info) = story.dataset.findings
    verdict, data = section(usual, "verdict"), section(usual, "data-check")
    for one in story.diagnosis:
        assert one.title in verdict and one.evidence in verdict and one.step in verdict
    assert "1 thing to look at" in verdict and warning not in verdict
    assert data.index("To look at") < data.index(warning) < data.index("Notes") < data.index(info)
    for note in (info, *story.notes):
        assert note in data and note not in verdict
    assert "--drop-leaks" in data


def test_where_nothing_wants_anything_no_section_says_so() -> None:
    story = made_story()
    story.diagnosis, story.dataset.findings = [], [("info", "Rare rows.")]
    text = html.render(story)
    assert "No rule looked at this run" in text
    assert "Rare rows." in section(text, "data-check") and "nothing to mend" in section(text, "data-check")
    assert "nothing to mend" in section(html.render(bare_story()), "data-check")


def test_the_best_trials_come_best_first_without_failures() -> None:
    story = made_story(30)
    header, rows = trials.top_trials(story)
    scores = [float(row["cells"][0]) for row in rows]
    assert scores == sorted(scores, reverse=True) and len(rows) == 20
    assert rows[0]["chosen"] and not any(row["chosen"] for row in rows[1:])
    assert header[:6] == ["Trial", "accuracy", "Seconds", "Epochs", "Peak memory", "Trained"]
    assert all(len(row["cells"]) == len(header) - 1 for row in rows)
    assert "model" not in header and "recipe epochs" in header


def test_a_minimised_metric_shows_its_own_value() -> None:
    story = bare_story()
    assert trials.top_trials(story)[1][0]["cells"][0] == "0.7100"
    assert results.strip(story) is None


def test_confusion_shades_are_shares_of_the_true_class() -> None:
    story = made_story()
    story.evaluation.confusion = (["a", "b"], np.array([[90, 10], [0, 0]]))
    found = trust.confusion(story)
    assert found is not None
    assert [[cell["shade"] for cell in row["cells"]] for row in found["rows"]] == [[9, 1], [0, 0]]
    assert found["pairs"] == [("a", "b", 10)]
    assert [row["recall"] for row in found["rows"]] == ["0.90", "–"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.004, "under 0.1 s"),
        (1.24, "1.2 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert words.duration(seconds).replace("\u00a0", " ") == text
    assert words.duration(float("nan")) == "–"


def test_numbers() -> None:
    assert [words.number(x) for x in (0.9664, -0.5, 12345.6, 0.00001, 0, None, float("inf"))] == [
        "0.966", "−0.500", "1.235e+04", "1e−05", "0.000", "–", "–",
    ]  # fmt: skip
    assert words.signed(0.05) == "+0.050" and words.signed(-0.05) == "−0.050"
    assert words.size(22_713_216) == "22.7 M" and words.size(950) == "950" and words.memory(6.2e8) == "620 MB"
    assert words.count(1, "trial") == "1 trial" and words.count(1000, "trial") == "1,000 trials"


def test_a_gain_says_better_worse_or_neither() -> None:
    story = made_story()
    baseline = story.evaluation.baselines[1]
    assert words.gain(story.evaluation, baseline).startswith("better by 0.076")
    baseline.difference, baseline.difference_interval = -0.01, (-0.03, 0.01)
    assert words.gain(story.evaluation, baseline).startswith("not clearly different")
    assert words.sense(baseline) == "same"
    baseline.difference_interval = (-0.03, -0.005)
    assert words.gain(story.evaluation, baseline).startswith("worse by 0.010")
    assert words.sense(baseline) == "down"
