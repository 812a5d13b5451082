"""``/docs``: one page without anything from elsewhere, to try the model on and to copy a command from."""

from __future__ import annotations

import base64
import hashlib

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
textarea, input { font: inherit; width: 100%; box-sizing: border-box; padding: .5rem; }
pre { background: color-mix(in srgb, currentColor 8%, transparent); padding: .75rem; overflow-x: auto; }
button { font: inherit; padding: .4rem 1.2rem; margin: .75rem 0; }
td { padding: .2rem 1rem .2rem 0; vertical-align: top; }
label { display: block; margin-top: .75rem; }
"""

_SCRIPT = """
const by = id => document.getElementById(id);
by("ask").addEventListener("submit", async event => {
  event.preventDefault();
  const token = by("token"), files = by("file"), headers = {};
  if (token) headers["Authorization"] = "Bearer " + token.value.trim();
  let body;
  if (files) {
    body = new FormData();
    for (const file of files.files) body.append("files", file);
  } else {
    headers["Content-Type"] = "application/json";
    const text = by("input").value;
    const words = by("ask").dataset.kind === "tokens";
    body = JSON.stringify({inputs: [words ? text.split(/\\s+/).filter(Boolean) : text]});
  }
  by("said").textContent = "...";
  try {
    const response = await fetch("predict", {method: "POST", headers, body});
    by("said").textContent = response.status + "\\n" + JSON.stringify(await response.json(), null, 2);
  } catch (error) {
    by("said").textContent = "The server did not answer.";
  }
});
"""

_FIELDS = {
    "text": '<label for="input">A text</label><textarea id="input" rows="4" required></textarea>',
    "tokens": '<label for="input">Words, with spaces between</label>'
    '<textarea id="input" rows="4" required></textarea>',
    "image": '<label for="file">Image files</label>'
    '<input id="file" type="file" accept="image/*" multiple required>',
}
_COMMANDS = {
    "text": """-H 'Content-Type: application/json' -d '{"inputs": ["a text", "another"]}'""",
    "tokens": """-H 'Content-Type: application/json' -d '{"inputs": [["some", "words"]]}'""",
    "image": "-F files=@picture.jpg",
}
_PATHS = (
    ("POST /predict", "answers for one input or several"),
    ("/v2/...", "the same by the Open Inference Protocol, version 2"),
    ("/v2/health/live, /v2/health/ready", "whether the server runs, and whether it can be asked"),
    ("/metrics", "metrics in Prometheus' text form"),
    ("/openapi.json", "all of this for programs"),
)


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


HEADERS = (
    (
        b"content-security-policy",
        f"default-src 'none'; style-src 'sha256-{_hash(_STYLE)}'; script-src 'sha256-{_hash(_SCRIPT)}'; "
        "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'".encode(),
    ),
    (b"referrer-policy", b"no-referrer"),
)
"""What a browser is told beside the page: nothing but its own style and script, and no frame around it."""


def html(kind: str, *, token: bool) -> bytes:
    """The page. It says nothing of the model, since it is shown without a token.

    Args:
        kind: ``text``, ``tokens`` or ``image``.
        token: Whether one is asked for.
    """
    secret = (
        '<label for="token">Token</label><input id="token" type="password" autocomplete="off" required>'
        if token
        else ""
    )
    header = "-H 'Authorization: Bearer TOKEN' " if token else ""
    rows = "".join(f"<tr><td><code>{path}</code></td><td>{told}</td></tr>" for path, told in _PATHS)
    command = f"curl {header}{_COMMANDS[kind]} http://HOST:PORT/predict"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>luthier serve</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>luthier serve</h1>"
        f'<form id="ask" data-kind="{kind}">{_FIELDS[kind]}{secret}<button>Predict</button></form>'
        '<pre id="said" role="status">The answer stands here.</pre>'
        f"<h2>From a program</h2><pre>{command}</pre>"
        f"<table>{rows}</table><script>{_SCRIPT}</script></body></html>"
    ).encode()
