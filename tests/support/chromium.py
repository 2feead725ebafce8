"""The system's Chromium, which tests look at pages in.

With SECATEUR_SCREENSHOTS naming a folder, what they saw is saved there: the pictures of the README come from there.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of Playwright; the test is skipped where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("NO CHROMIUM, PAGES ARE NOT TESTED: install it (apt-get install chromium) to run this test")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=SWITCHES)
        try:
            yield browser
        finally:
            browser.close()


def shoot(seen: Any, name: str) -> None:
    """Save what a page or a part of it shows, where screenshots are asked for."""
    if folder := os.environ.get("SECATEUR_SCREENSHOTS"):
        time.sleep(1.5)
        seen.screenshot(path=str(Path(folder) / f"{name}.png"))
