"""Templates of pages, in this folder, with their common functions."""

from pathlib import Path
from typing import Any

import jinja2

from secateur.pipelines.pages.cells import cells, numeric
from secateur.pipelines.pages.words import as_html, with_minus


def templates(**globals_: Any) -> jinja2.Environment:
    """The templates, with further functions by name."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent, encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, loader=loader, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"said": as_html, "minus": with_minus}
    environment.globals |= {"cells": cells, "numeric": numeric, **globals_}
    return environment
