"""From what the sections have gathered to one HTML page that loads nothing and runs one script, ours."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TEMPLATES = Path(__file__).parent / "templates"


def render_page(content: Mapping[str, Any]) -> str:
    """Return the page; all values in ``content`` are escaped.

    The content security policy names the hash of the script, so that no other script can run, whatever a file name
    holds.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, style = ((_TEMPLATES / name).read_text("utf-8") for name in ("report.js", "report.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template("report.html").render(
        content,
        # Both are files of ours.
        script=Markup(script),
        style=Markup(style),
        script_hash=f"sha256-{digest}",
    )
