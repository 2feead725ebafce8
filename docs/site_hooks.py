"""Before the site is built: the four folders with an `__init__.py` in each room, for the reader of docstrings.

In the project itself they hold none, or `selectors/` would hide the standard library's module.
"""

import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MIRROR = ROOT / "build" / "docstrings" / "secateur"


def on_startup(**_: Any) -> None:
    """Lay out the mirror that `paths` of mkdocs.yml names."""
    shutil.rmtree(MIRROR, ignore_errors=True)
    MIRROR.mkdir(parents=True)
    (MIRROR / "__init__.py").touch()
    for path in (path for floor in (ROOT / ".layout" / "secateur").iterdir() for path in floor.rglob("*.py")):
        copy = MIRROR / path.relative_to(ROOT / ".layout" / "secateur")
        copy.parent.mkdir(parents=True, exist_ok=True)
        for room in (parent for parent in copy.parents if parent.is_relative_to(MIRROR)):
            (room / "__init__.py").touch()
        shutil.copyfile(path, copy)
