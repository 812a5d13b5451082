"""That people read the page whatever they see it with: headings, landmarks, names, and contrast."""

from __future__ import annotations

import itertools
import re
from importlib.resources import files

import pytest
from report_stories import bare_story, hostile_story, made_story, weighed_story
from test_report_html import Page

from luthier.report import html

STORIES = [made_story, hostile_story, bare_story, weighed_story]
TEMPLATES = files("luthier.report") / "templates"


@pytest.fixture(scope="module", params=STORIES, ids=lambda story: story.__name__)
def page(request: pytest.FixtureRequest) -> Page:
    return Page(html.render(request.param()))


def test_headings_step_down_one_at_a_time(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_there_is_one_of_each_landmark_and_every_section_has_a_name(page: Page) -> None:
    tags = [tag for tag, _ in page.elements]
    assert all(tags.count(name) == 1 for name in ("header", "main", "nav", "footer"))
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(name) is None or attributes[name] in ids
        if tag == "section":
            assert attributes.get("aria-labelledby")
        if attributes.get("role") in ("region", "img"):
            assert attributes.get("aria-label")
        if tag == "a" and (attributes.get("href") or "").startswith("#"):
            assert (attributes["href"] or "")[1:] in ids
        if tag == "img":
            assert attributes.get("alt")


def test_what_scrolls_sideways_can_be_reached_without_a_mouse(page: Page) -> None:
    regions = [attributes for _, attributes in page.elements if attributes.get("role") == "region"]
    assert regions and all(attributes.get("tabindex") == "0" for attributes in regions)


def test_drawings_without_text_are_kept_from_readers(page: Page) -> None:
    drawings = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert all(attributes.get("aria-hidden") == "true" for attributes in drawings)


def test_nothing_moves() -> None:
    for name in ("report", "parts", "print"):
        css = (TEMPLATES / f"{name}.css").read_text()
        assert not re.search(r"transition|animation|@keyframes|scroll-behavior", css)
    assert "animation: false" in (TEMPLATES / "kit.js").read_text()


def schemes() -> dict[str, dict[str, str]]:
    """Custom properties of the light and the dark scheme, and of paper."""
    css = (TEMPLATES / "report.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
    (paper,) = re.findall(r":root \{(.*?)\}", (TEMPLATES / "print.css").read_text(), re.DOTALL)
    read = lambda block: dict(re.findall(r"--([\w-]+): ([^;]+);", block))  # noqa: E731
    return {
        "light": read(light),
        "dark": read(light) | read(dark),
        "paper": read(light) | read(dark) | read(paper),
    }


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    parts = [part / 255 for part in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def rgb(colour: str) -> tuple[float, ...]:
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    return tuple(int(digits[at : at + 2], 16) for at in (0, 2, 4))


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_known() -> None:
    assert contrast(rgb("#fff"), rgb("#000000")) == pytest.approx(21)
    assert contrast(rgb("#777"), rgb("#fff")) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark", "paper"])
def test_texts_and_marks_stand_out_from_their_ground(scheme: str) -> None:
    colours = schemes()[scheme]
    texts = list(itertools.product(("ink", "soft", "accent", "good", "bad"), ("paper", "raised")))
    texts += [("ink", "wash"), ("soft", "wash"), ("bad", "bad-wash")]
    texts += [(name, "accent-wash") for name in ("ink", "soft", "accent")]
    for text, ground in texts:
        assert contrast(rgb(colours[text]), rgb(colours[ground])) >= 4.5, (text, ground)
    for mark in ("cool", "accent", *(f"p{i}" for i in range(1, 8))):
        assert contrast(rgb(colours[mark]), rgb(colours["paper"])) >= 3, mark
    heat, raised = map(float, colours["heat"].split(",")), rgb(colours["raised"])
    found = re.search(
        r"\.s9 \{ background: rgba\(var\(--heat\), (\.\d+)\)", (TEMPLATES / "report.css").read_text()
    )
    assert found is not None
    part = float(found[1])
    darkest = tuple(part * one + (1 - part) * other for one, other in zip(heat, raised, strict=True))
    assert contrast(rgb(colours["ink"]), darkest) >= 4.5
