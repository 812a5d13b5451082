"""The report: one HTML file that holds all it shows, asks nothing of the network, and runs only its own
script."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image, UnidentifiedImageError

from luthier.report import view, words
from luthier.report.story import Story

THUMBNAIL = 112
"""Longest side in pixels of an image among the worst errors."""


def render(story: Story) -> str:
    """The whole page. Anything in ``story`` may be hostile: it is escaped as text, and as JSON in the data
    block."""
    script = _resource("vendor/echarts.common.min.js"), _resource("templates/report.js")
    style = _resource("templates/report.css")
    charts = view.charts(story)
    header, top = view.top_trials(story)
    page: str = (
        _environment()
        .get_template("report.html")
        .render(
            story=story,
            evaluation=story.evaluation,
            words=words,
            style=Markup(style),
            scripts=[Markup(text) for text in script],
            policy=content_policy(style, script),
            data=json_block(charts),
            charts=charts,
            baselines=view.baselines(story),
            top_header=header,
            top=top,
            range=view.strip(story),
            confusion=view.confusion(story),
            curves=view.curves(story),
            statuses=view.statuses(story),
            failures=view.failures(story),
            stages=view.stages(story),
            remarks=view.remarks(story),
            data_notes=view.data_notes(story),
            thumbnails=thumbnails(story),
        )
    )
    return page.replace("\x00", "�")


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


def thumbnails(story: Story) -> dict[int, str]:
    """Small pictures of the worst errors by position, as data URIs, where inputs are files under
    ``image_root``."""
    if not story.image_root:
        return {}
    root = Path(story.image_root).resolve()
    pictures = {}
    for position, error in enumerate(story.evaluation.worst):
        path = (root / error.input).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            continue
        try:
            with Image.open(path) as image:
                small = image.convert("RGB")
        except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
            continue
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=80)
        pictures[position] = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return pictures


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("luthier.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _resource(name: str) -> str:
    return files("luthier.report").joinpath(name).read_text(encoding="utf-8")
