"""Makes a page self-contained: embeds pictures and the tables' library, and forbids requests."""

import base64
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from markupsafe import Markup, escape

from secateur.trainers.experiments.drawing import GRID, INK

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline' blob:; base-uri 'none'; "
    "form-action 'none'"
)
"""Content Security Policy of the page: it permits embedded content and scripts, and no request to any host."""
COLOURS = {INK: "var(--ink)", GRID: "var(--line)", "#ffffff": "var(--page)", "white": "var(--page)"}
"""Colours of pictures, with the page's variables that replace them in light and dark mode."""
OWN = re.compile(r'(\bid="|url\(#|href="#)')


def inlined(svg: bytes, name: str, label: str) -> Markup:
    """An SVG of ours as an element of the page, with an accessible label, the page's colours, and ids unique to the
    picture.

    Any other SVG becomes an `img`, in which no script runs.
    """
    start = svg.find(b"<svg ")
    if b"<dc:title>Matplotlib" not in svg or start < 0:
        content = base64.b64encode(svg).decode()
        return Markup('<img alt="{}" src="data:image/svg+xml;base64,{}">').format(label, content)
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg[start:].decode(), flags=re.DOTALL)
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    width = re.search(r'width="([\d.]+)pt"', head)
    assert box
    assert width
    body = OWN.sub(rf"\g<1>{re.sub(r'[^a-z0-9]+', '-', name)}-", body)
    for before, after in COLOURS.items():
        body = re.sub(rf"(?<=: ){before}(?=[;\"])", after, body)
    style = f"max-width: {1.35 * float(width[1]):.0f}px"
    return Markup(f'<svg role="img" aria-label="{escape(label)}" style="{style}" {box[0]}>{body}')


@cache
def library() -> str:
    """The JavaScript module of DataTables (MIT) from the package itables, escaped for a script element."""
    spec = find_spec("itables")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("itables, whose tables the report embeds, is not installed: pip install itables")
    text = (Path(spec.origin).parent / "html" / "dt_bundle.js").read_text(encoding="utf-8")
    text = text.replace("<!--", r"<\!--").replace("</script", r"<\/script")
    # Such characters occur only in strings and patterns, where an escape is equivalent.
    return re.sub(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff]", lambda one: f"\\u{ord(one[0]):04x}", text
    )
