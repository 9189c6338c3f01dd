"""The page of `curate report`: one HTML file in which nothing is loaded from elsewhere.

Captions, keys and errors come from the web. They lie in the page as JSON, in which no character can end the element
that holds it; the page's script shows them as text alone. The Content-Security-Policy allows this style sheet, this
script, and pictures that lie in the page itself.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

SCRIPTS = (
    "arrays.js",
    "tests.js",
    "select.js",
    "shapes.js",
    "histogram.js",
    "gallery.js",
    "corpus.js",
    "map.js",
    "main.js",
)
"""In this order they make up the page's one script."""
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def page(data: Mapping[str, Any]) -> str:
    """The whole page; `data` is what `curation.reporting.report_data` computes."""
    style = _part("page.css")
    script = '"use strict";\n(() => {\n' + "\n".join(_part(name) for name in SCRIPTS) + "\n})();\n"
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "POLICY": policy,
        "TITLE": html.escape(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(data["name"]))),
        "STYLE": style,
        "DATA": embedded(data),
        "SCRIPT": script,
    }
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda found: parts[found[1]], _part("page.html"))


def embedded(data: Any) -> str:
    """JSON that is harmless inside a script element: without `<`, `>`, `&` and line separators."""
    text = json.dumps(_clean(data), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return re.sub("[<>&\u2028\u2029]", lambda found: _UNSAFE[found[0]], text)


def _clean(value: Any) -> Any:
    """The same without control characters and lone surrogates in its texts."""
    if isinstance(value, str):
        return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, Mapping):
        return {key: _clean(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(each) for each in value]
    return value


def _part(name: str) -> str:
    return resources.files("curation.reporting").joinpath("page", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
