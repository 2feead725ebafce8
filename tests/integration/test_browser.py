"""End-to-end tests of the UI: `secateur ui` in a process of its own, clicked in Chromium, state awaited by GraphQL.

If SECATEUR_SCREENSHOTS names a folder, the tests save pictures there; those of the README come from here.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from chromium import chromium, shoot
from small_data import write_shapes

from secateur.pipelines.assets.audit import CHECKS
from secateur.pipelines.manifests.manifest import Manifest
from secateur.selectors.static.top import top

pytestmark = pytest.mark.browser

LOCATION = "secateur.pipelines.definitions"
PATIENCE = 240
"""Seconds for the server to start, and for each run: an idle machine needs a tenth."""
CONFIG = {"model": "mlp", "model_settings": {"hidden": [32]}, "epochs": 8, "batch_size": 16}
STUDY = {
    "name": "shapes",
    "source": {"kind": "imagefolder", "train": "data/train", "test": "data/test"},
    "columns": {"image": "image", "label": "label"},
    "proxy": CONFIG,
    "training": CONFIG,
    "scores": {"el2n": {"epochs": 4}, "prototype_distance": None},
    "selections": {"hardest": {"selector": "top", "score": "el2n"}},
    "keep": [0.25],
    "seeds": 1,
    "recurring": {"cron": "0 6 * * 1"},
}


def until(ready: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """The first true result of `ready`; fails with the name of the awaited state."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := ready():
            return answer
        time.sleep(0.3)
    raise AssertionError(f"waited {seconds} s for {what}")


class Ui:
    """A running UI: its address, its answers, its runs."""

    def __init__(self, port: int, home: Path, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.url, self.home, self.log, self.process = f"http://127.0.0.1:{port}", home, log, process

    def ask(self, query: str) -> Any:
        content = json.dumps({"query": query}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", content, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["data"]

    def loaded(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        with suppress(OSError):
            entries = self.ask(
                "{ workspaceOrError { ... on Workspace { locationEntries { "
                "loadStatus locationOrLoadError { __typename ... on PythonError { message } } } } } }"
            )["workspaceOrError"]["locationEntries"]
            assert "PythonError" not in {entry["locationOrLoadError"]["__typename"] for entry in entries}, entries
            return bool(entries) and all(entry["loadStatus"] == "LOADED" for entry in entries)
        return False

    def runs(self, job: str) -> list[dict[str, Any]]:
        """Runs of a job, oldest first."""
        query = "{ runsOrError { ... on Runs { results { runId jobName status creationTime startTime endTime } } } }"
        found = [run for run in self.ask(query)["runsOrError"]["results"] if run["jobName"] == job]
        return sorted(found, key=lambda run: run["creationTime"])

    def finished(self, job: str, count: int) -> list[dict[str, Any]]:
        """At least `count` runs of a job, after all have ended."""

        def ended() -> list[dict[str, Any]]:
            found = self.runs(job)
            done = len(found) >= count and all(run["status"] in ("SUCCESS", "FAILURE", "CANCELED") for run in found)
            return found if done else []

        return list(until(ended, f"{count} runs of {job}"))


@pytest.fixture
def ui(tmp_path: Path) -> Iterator[Ui]:
    """`secateur ui` on a study of drawn shapes; the fixture ends its whole process group."""
    data = tmp_path / "studies" / "data"
    write_shapes(data)
    shown = next(iter(sorted((data / "train").rglob("*.png"))))
    (data / "test" / shown.parent.name / "leaked.png").write_bytes(shown.read_bytes())
    (tmp_path / "studies" / "shapes.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home, log = tmp_path / "home", tmp_path / "log"
    own = {"SECATEUR_HOME": str(home), "SECATEUR_STUDIES": str(tmp_path / "studies"), "OMP_NUM_THREADS": "1"}
    command = [Path(sys.executable).with_name("secateur"), "ui", "--port", str(port)]
    (tmp_path / "cwd").mkdir()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=tmp_path / "cwd", env=os.environ | own, stdout=output, stderr=output, start_new_session=True
        )
    try:
        running = Ui(port, home, log, process)
        until(running.loaded, "the UI to load its definitions")
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


@pytest.fixture
def page() -> Iterator[Any]:
    """A page of the system's Chromium."""
    with chromium() as browser:
        opened = browser.new_page(viewport={"width": 1400, "height": 900})
        opened.set_default_timeout(60_000)
        yield opened


def pictures(page: Any) -> list[list[int]]:
    """Width and height of every picture that the browser could decode."""
    found = page.locator("img[src^='data:image']")
    found.first.wait_for()
    sizes: list[list[int]] = found.evaluate_all("all => all.map(one => [one.naturalWidth, one.naturalHeight])")
    return sizes


def fill(page: Any, **config: Any) -> None:
    """Write a configuration into the launchpad's editor."""
    text = yaml.safe_dump({"ops": {"select_from_shapes": {"config": config}}})
    page.evaluate("text => document.querySelector('.CodeMirror').CodeMirror.setValue(text)", text)


def test_a_session_in_the_ui(page: Any, ui: Ui) -> None:
    the_graph_opens_and_two_runs_take_turns(page, ui)
    a_score_is_seen(page, ui)
    a_selection_is_asked_for(page, ui)
    an_audit_is_read(page, ui)
    a_schedule_is_turned_on(page, ui)


def the_graph_opens_and_two_runs_take_turns(page: Any, ui: Ui) -> None:
    """Materialise the data set's assets and scores, twice: both runs need the accelerator, so one waits."""
    page.set_viewport_size({"width": 2800, "height": 2000})  # Dagster draws only the visible part of a graph
    page.goto(f"{ui.url}/locations/{LOCATION}/asset-groups/shapes")
    for name in ("proxy", "subset", "report"):
        page.get_by_text(name, exact=True).first.wait_for()
    page.get_by_text("List", exact=True).first.click()
    for name in ("scores / el2n", "audit", "ad_hoc_selection"):
        page.get_by_text(f"shapes / {name}", exact=True).first.wait_for()
    page.set_viewport_size({"width": 1400, "height": 900})
    for count in (1, 2):
        page.goto(f"{ui.url}/locations/{LOCATION}/jobs/shapes_rescoring")
        page.get_by_role("button", name="Materialize all").click()
        until(lambda count=count: len(ui.runs("shapes_rescoring")) == count, f"run {count} to be asked for")
    first, second = sorted(ui.finished("shapes_rescoring", 2), key=lambda run: run["startTime"])
    assert {first["status"], second["status"]} == {"SUCCESS"}
    assert second["creationTime"] < first["endTime"], "the second was asked for too late to tell anything"
    assert second["startTime"] >= first["endTime"]


def a_score_is_seen(page: Any, ui: Ui) -> None:
    """Histogram, boxes by class and both ends of a score, as pictures that the browser draws."""
    page.goto(f"{ui.url}/assets/shapes/scores/el2n")
    buttons = page.get_by_text("Show Markdown")
    buttons.first.wait_for()
    assert buttons.count() == 3
    shoot(page, "score")
    for place, (name, count) in enumerate((("histogram", 1), ("by_class", 1), ("ends", 2))):
        buttons.nth(place).click()
        sizes = pictures(page)
        assert len(sizes) == count
        assert all(width > 300 and height > 30 for width, height in sizes)
        shoot(page.get_by_role("dialog"), f"score_{name}")
        page.get_by_role("button", name="Close").click()
        page.locator("img[src^='data:image']").first.wait_for(state="detached")


def a_selection_is_asked_for(page: Any, ui: Ui) -> None:
    """An input that the launchpad rejects, one that the job rejects with a sentence, then a successful selection."""
    playground = f"{ui.url}/locations/{LOCATION}/jobs/shapes_ad_hoc_selection/playground"
    page.goto(playground)
    page.get_by_text("No errors").wait_for()
    fill(page, selector="tpo", keep=0.2)
    page.get_by_text("got tpo").first.wait_for()
    assert not page.get_by_role("button", name="Launch Run").is_enabled()
    shoot(page, "launchpad")
    for count, settings in ((1, {"ennd": "low"}), (2, {"end": "low"})):
        page.goto(playground)
        page.locator(".CodeMirror").wait_for()
        fill(page, selector="top", score="el2n", keep=0.2, settings=settings, name="easiest")
        page.get_by_text("No errors").wait_for()
        page.get_by_role("button", name="Launch Run").click()
        until(lambda count=count: len(ui.runs("shapes_ad_hoc_selection")) == count, "the selection to be asked for")
        if count == 1:
            ui.finished("shapes_ad_hoc_selection", 1)
            page.get_by_text("did you mean 'end'?").first.wait_for()
    refused, made = ui.finished("shapes_ad_hoc_selection", 2)
    assert (refused["status"], made["status"]) == ("FAILURE", "SUCCESS")
    page.goto(f"{ui.url}/assets/shapes/ad_hoc_selection")
    path = page.get_by_text("/ad_hoc_selection/easiest").first
    path.wait_for()
    shoot(page, "ad_hoc_selection")
    manifest = Manifest.load(path.inner_text().strip(), verify=True)
    scores = np.load(ui.home / "assets" / "shapes" / "scores" / "el2n.npy")
    expected = top(scores, 12, end="low", ids=np.arange(60))
    assert manifest.training_rows.tolist() == np.flatnonzero(expected).tolist()
    page.get_by_text("Show Markdown").first.click()
    assert pictures(page)


def verdicts(ui: Ui) -> dict[str, bool]:
    """Whether each check of the audit passed; empty until all have run."""
    query = """{ assetNodeOrError(assetKey: {path: ["shapes", "audit"]}) { ... on AssetNode { assetChecksOrError {
        ... on AssetChecks { checks { name executionForLatestMaterialization { evaluation { success } } } } } } } }"""
    checks = ui.ask(query)["assetNodeOrError"]["assetChecksOrError"]["checks"]
    asked = {one["name"]: one["executionForLatestMaterialization"] for one in checks}
    return {name: one["evaluation"]["success"] for name, one in asked.items()} if all(asked.values()) else {}


def an_audit_is_read(page: Any, ui: Ui) -> None:
    """The audit, materialised by a click: its checks in the UI, and its accessible page behind the link."""
    page.goto(f"{ui.url}/assets/shapes/audit")
    before = len(ui.runs("__ASSET_JOB"))
    page.get_by_role("button", name=re.compile("Materialize")).first.click()
    until(lambda: len(ui.runs("__ASSET_JOB")) > before, "the audit to be asked for")
    assert ui.finished("__ASSET_JOB", before + 1)[-1]["status"] == "SUCCESS"
    page.goto(f"{ui.url}/assets/shapes/audit?view=checks")
    for name in CHECKS:
        page.get_by_text(name, exact=True).first.wait_for()
    passed = until(lambda: verdicts(ui), "the checks of the audit", 60)
    assert passed == {"no_leaks": False, "no_duplicates": True, "labels_right": True}
    shoot(page, "audit_checks")
    page.goto(f"{ui.url}/assets/shapes/audit")
    link = page.locator("a[href$='/shapes/audit.html']").first
    link.wait_for()
    page.goto(str(link.get_attribute("href")))
    page.wait_for_selector("html[data-tables=ready]", state="attached")
    titles = page.locator("main h2").all_inner_texts()
    assert (titles[:2], titles[-1]) == (["Answer", "Findings"], "Methods")
    leaks = "Test rows and benchmarks that training has (test)"
    assert {leaks, "Labels to look at (train)", "Your marks"} < set(titles)
    assert "1 test row of 19 also in train" in page.locator("#findings").inner_text()
    section = page.locator("section", has=page.get_by_role("heading", name=leaks))
    assert section.locator("img[src^='data:image']").count() == 2  # the leaked one and its training copy
    assert all(min(size) > 0 for size in pictures(page))
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def a_schedule_is_turned_on(page: Any, ui: Ui) -> None:
    """The study's cron line, switched on by a click."""
    page.goto(f"{ui.url}/locations/{LOCATION}/schedules/shapes_schedule")
    switch = page.locator("input[type=checkbox]").first
    switch.wait_for(state="attached")
    assert not switch.is_checked()
    switch.locator("xpath=..").click()  # the drawn switch hides the checkbox
    of = f'repositoryName: "__repository__", repositoryLocationName: "{LOCATION}", scheduleName: "shapes_schedule"'
    query = f"{{ scheduleOrError(scheduleSelector: {{{of}}}) {{ ... on Schedule {{ scheduleState {{ status }} }} }} }}"
    until(lambda: ui.ask(query)["scheduleOrError"]["scheduleState"]["status"] == "RUNNING", "the schedule to run", 60)
    shoot(page, "schedule")
