"""Renders a page that holds all it needs: its style, its script, its data, and nothing from anywhere else.

    render_page("report.html.j2", title="tiny", headlines=[...])    "<!doctype html>..."

A content security policy with the hashes of the style and the script keeps anything else from running,
whatever a model has written; the templates escape every text.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mathreason.analysis import figures
from mathreason.analysis import format as fmt
from mathreason.analysis.report_items import MAX_RESPONSE_CHARACTERS

_HERE = Path(__file__).parent


def render_page(template: str, **context: Any) -> str:
    """The HTML of a template of this folder, filled with `context`, whose texts are visible already."""
    style = (_HERE / "report.css").read_text(encoding="utf-8") + figures.PALETTE
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.globals["fmt"] = fmt
    return environment.get_template(template).render(
        style=Markup(style),  # noqa: S704 (the project's own file)
        script=Markup(script),  # noqa: S704 (the project's own file)
        policy=_policy(style, script),
        max_characters=MAX_RESPONSE_CHARACTERS,
        **context,
    )


def drawn(svg: str) -> Markup:
    """SVG made by the figures module, which escapes every text in it."""
    return Markup(svg)  # noqa: S704


def _policy(style: str, script: str) -> str:
    """Content security policy that lets only this style and this script through, by hash."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )
