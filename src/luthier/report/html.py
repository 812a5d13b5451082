"""The report: one HTML file that holds all it shows, asks nothing of the network, and runs only its own
script."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from PIL import Image, UnidentifiedImageError

from luthier.report import words
from luthier.report.story import Story
from luthier.report.view import continued, results, run, settings, trials, trust
from luthier.report.view.charts import charts

THUMBNAIL = 112
"""Longest side in pixels of an image among the worst errors and the likely label mistakes."""
SCRIPTS = tuple(f"templates/{name}.js" for name in ("kit", "charts", "parallel", "redraw", "page"))
"""The page's own scripts, in the order in which they build on each other."""
ECHARTS, STYLES = "vendor/echarts.min.js", ("report", "parts", "print")


def render(story: Story) -> str:
    """The whole page. Anything in ``story`` may be hostile: it is escaped as text, and as JSON in the data
    block."""
    data = charts(story)
    values = {"story": story, "evaluation": story.evaluation, **_tables(story, data)}
    return page("report.html", SCRIPTS, data, values)


def page(template: str, scripts: Sequence[str], data: dict[str, Any], values: dict[str, Any]) -> str:
    """A page that holds the chart library, its own scripts and the style sheets, under a policy that allows
    nothing else.

    Args:
        template: Its file.
        scripts: Files of its own scripts, in the order in which they build on each other.
        data: What they draw from.
        values: What else the template is filled from.
    """
    texts = tuple(resource(name) for name in (ECHARTS, *scripts))
    style = "".join(resource(f"templates/{name}.css") for name in STYLES)
    made: str = (
        environment()
        .get_template(template)
        .render(
            words=words,
            style=Markup(style),
            scripts=[Markup(text) for text in texts],
            policy=content_policy(style, texts),
            data=json_block(data),
            charts=data,
            **values,
        )
    )
    return made.replace("\x00", "\ufffd")


def _tables(story: Story, data: dict[str, Any]) -> dict[str, Any]:
    """What the templates' tables and lists are filled from, by the names they use."""
    header, top = trials.top_trials(story)
    open_verdicts, folded = results.verdicts(story)
    suspects = trust.suspects(story)
    worst = [error.input for error in story.evaluation.worst]
    doubted = [row.input for row in suspects["rows"]] if suspects else []
    return {
        "verdicts": open_verdicts,
        "folded_verdicts": folded,
        "gravities": results.GRAVITIES,
        "range": results.strip(story),
        "baselines": results.baselines(story),
        "ensembles": results.ensembles(story),
        "continued": continued.rows(story),
        "continued_told": continued.sentences(story),
        "top_header": header,
        "top": top,
        "fronts": trials.front_tables(story, data["trials"]),
        "statuses": trials.statuses(story),
        "failures": trials.failures(story),
        "curves": data["curves"],
        "shares": settings.shares(story),
        "together": settings.together(story),
        "along": data["along"],
        "confusion": trust.confusion(story),
        "slices": trust.slices(story),
        "suspects": suspects,
        "data_remarks": run.data_remarks(story),
        "data_notes": run.data_notes(story),
        "stages": run.stages(story),
        "thumbnails": thumbnails(story.image_root, worst),
        "suspect_thumbnails": thumbnails(story.image_root, doubted),
    }


def content_policy(style: str, scripts: tuple[str, ...]) -> str:
    """A content security policy under which nothing loads and only exactly these inline blocks apply."""

    def allowed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {' '.join(map(allowed, scripts))}; style-src {allowed(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def json_block(value: Any) -> Markup:
    """JSON that cannot end the script element it stands in, nor be read as markup."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def thumbnails(image_root: str, inputs: Sequence[str]) -> dict[int, str]:
    """Small pictures by position, as data URIs, of those ``inputs`` that are files under ``image_root``."""
    if not image_root:
        return {}
    root = Path(image_root).resolve()
    pictures = {}
    for position, name in enumerate(inputs):
        try:
            path = (root / name).resolve()
            if not path.is_relative_to(root) or not path.is_file():
                continue
            with Image.open(path) as image:
                small = image.convert("RGB")
        except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
            continue
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=80)
        pictures[position] = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return pictures


def environment() -> jinja2.Environment:
    """Templates of this package, which escape what they are given."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("luthier.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters["code"] = code
    return made


def code(text: str) -> Markup:
    """A sentence as HTML, with what stands between backticks set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def resource(name: str) -> str:
    """The text of a file of this package."""
    return files("luthier.report").joinpath(name).read_text(encoding="utf-8")
