"""The page of a report in Chromium, without a network, at three widths, in light and dark mode.

If SECATEUR_SCREENSHOTS names a folder, the tests save pictures there; those of the README come from here.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chromium import chromium, shoot
from markdown_it import MarkdownIt
from small_data import write_payments, write_shapes, write_tickets
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.pipelines.pages.words import mean_of, signed, with_minus
from secateur.pipelines.studies.trust import trust
from secateur.trainers.judging.comparison import Summary
from secateur.trainers.tasks.contract import Metric

WIDTHS = (360, 768, 1440)
MOST = 3_000_000
"""Most bytes of a page."""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
MODEL = {"model": "mlp", "model_settings": {"hidden": [16]}, "batch_size": 32}
STUDIES: dict[str, dict[str, Any]] = {
    "digits": {},  # the shipped study
    "shapes": {
        "description": "Drawn shapes; some lie in a wrong folder",
        "source": {"kind": "imagefolder", "train": "shapes/train", "test": "shapes/test"},
        "columns": {"image": "image", "label": "label"},
        "scores": {"el2n": {"epochs": 3}, "accumulated_margin": None},
        "selections": {"hardest": {"selector": "top", "score": "el2n"}, "rs2": None},
        "training": MODEL | {"epochs": 4},
        "compare_at": ["epochs", "steps"],
    },
    "tickets": {
        "description": "Support tickets and their queues",
        "source": {"kind": "csv", "train": "tickets.csv", "test_fraction": 0.3},
        "columns": {"text": "body", "label": "queue"},
        "scores": {"aum": None},
    },
    "payments": {
        "description": "One payment in 45 is fraud",
        "source": {"kind": "csv", "train": "payments.csv", "test_fraction": 0.4},
        "columns": {"features": ["amount", "hour", "country"], "label": "fraud"},
        "scores": {"el2n": {"epochs": 2}},
    },
}
KINDS = [pytest.param(name, marks=() if name == "shapes" else pytest.mark.nightly) for name in STUDIES]


def shell(*words: str) -> Any:
    """The JSON output of a command, which must succeed."""
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A function that runs one of the studies, once, and returns the folder of its report."""
    folder, done = tmp_path_factory.mktemp("pages"), dict[str, Path]()
    write_shapes(folder / "shapes", (90, 30), mislabelled=0.1)
    for split in ("train", "test"):  # a duplicate and a leak, in the folder of its shape
        shutil.copy(
            folder / "shapes" / "train" / "circle" / "030.png", folder / "shapes" / split / "circle" / "999.png"
        )
    write_tickets(folder / "tickets.csv")
    write_payments(folder / "payments.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECATEUR_HOME", str(folder / "home"))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "settings"))
        trust(folder)

        def run(name: str, *words: str) -> Path:
            patch.setenv("SECATEUR_HOME", str(folder / "home"))
            if name not in done or words:
                few = name == "shapes"
                common = {
                    "name": name,
                    "proxy": MODEL | {"epochs": 3},
                    "training": MODEL | {"steps": 20},
                    "keep": [0.5] if few else [0.7, 0.4],
                    "seeds": 2 if few else 3,
                }
                if own := STUDIES[name]:
                    hardest = {"hardest": {"selector": "top", "score": next(iter(own["scores"]))}}
                    (folder / f"{name}.yaml").write_text(yaml.safe_dump(common | {"selections": hardest} | own))
                study = str(folder / f"{name}.yaml") if own else name
                done[name] = Path(shell("run", study, *words)["report_file"]).parent
            return done[name]

        yield run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


class Seen:
    """A page in the browser, with its console messages, errors and external requests."""

    def __init__(self, browser: Any, file: Path) -> None:
        self.complaints: list[str] = []
        self.page = browser.new_context(offline=True).new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.note(request.url))
        self.page.goto(file.absolute().as_uri())
        self.page.wait_for_selector("html[data-tables=ready]")

    def note(self, url: str) -> None:
        if not url.startswith(("file:", "data:", "blob:")):
            self.complaints.append(f"asked for {url}")

    def violations(self) -> list[str]:
        """Violations found by axe-core, with their elements."""
        found = self.page.evaluate(f"axe.run({json.dumps({'runOnly': RULES})})")
        assert len(found["passes"]) > 20, "axe looked at nothing"
        return [f"{one['id']}: {one['nodes'][0]['html'][:300]}" for one in found["violations"]]


@pytest.mark.browser
@pytest.mark.parametrize("name", KINDS)
def test_the_page_is_readable_everywhere(made: Any, browser: Any, name: str) -> None:
    from axe_playwright_python.base import AXE_SCRIPT

    seen = Seen(browser, made(name) / "report.html")
    seen.page.evaluate(AXE_SCRIPT)
    for scheme in ("light", "dark"):
        seen.page.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            seen.page.set_viewport_size({"width": width, "height": 900})
            assert seen.violations() == [], (scheme, width)
            assert seen.page.evaluate("document.documentElement.scrollWidth") <= width, "the page itself scrolls"
            shoot(seen.page, f"report_{name}_{width}_{scheme}")
    shoot(seen.page.locator("#suspects"), f"report_{name}_suspects")
    assert seen.complaints == []
    sentences_are_those_of_the_numbers(seen.page, json.loads((made(name) / "report.json").read_text()))
    tables_sort_and_filter(seen.page)
    a_point_tells_its_numbers(seen.page)
    print_shows_everything(seen.page)
    assert seen.complaints == []
    if name == "shapes":
        heads_stand_apart(seen.page)
    if (made(name) / "report.html").read_text().count("<img alt"):
        pictures_are_shown(seen.page)


def sentences_are_those_of_the_numbers(page: Any, report: dict[str, Any]) -> None:
    """The page agrees with report.json, and the texts on means agree with their numbers."""
    text = page.locator("#answer").inner_text()
    assert report["verdict"] in text
    assert " ".join(report["recommendation"]["sentence"].split()) in " ".join(text.split())
    metric = Metric(**report["metrics"][0])
    lines = page.locator("#table-1 tbody tr").all_inner_texts()
    assert len(lines) == len(report["rows"]) + len(report["whole"])
    said = " ".join(page.locator("#saving").inner_text().replace("`", "").split())
    assert all(sentence.replace("`", "") in said for sentence in report["saving"]["sentences"])
    for row, line in zip(report["rows"], lines, strict=False):
        shown, told = row["metrics"][metric.name], line.split("\t")
        assert told[0] == row["title"]
        assert told[2] == mean_of(Summary(shown["mean"], shown["half_width"], shown["seeds"]), metric)
        if compared := row["against"].get("random"):
            difference = signed(compared["difference"], metric).replace("-", "\N{MINUS SIGN}")
            assert told[4].startswith(f"{compared['verdict']} {difference}")
    claimed = [one for one in report["recommendation"]["claims"] if one["not_worse"]]
    if not claimed:
        assert text.lstrip("Answer\n").startswith("Keep everything")
    for claim in report["recommendation"]["claims"]:
        assert claim["not_worse"] == (
            claim["lower"] is not None and claim["lower"] > -report["recommendation"]["margin"]
        )
    suspects = page.locator("#suspects-1 tbody tr")
    assert suspects.count() == len(report["suspects"]["listed"])
    for place, one in enumerate(report["suspects"]["listed"][:3]):
        told = suspects.nth(place).inner_text()
        assert one["given"] in told
        assert one["predicted"] in told
        assert one["place"] in told
        assert all(with_minus(f"{value:.4g}") in told for value in one["scores"].values())


def heads_stand_apart(page: Any) -> None:
    """No column header of the gallery or of a table covers another one, and the longest is complete."""
    script = """() => [...document.querySelectorAll("thead tr")].flatMap(row => {
        const boxes = [...row.cells].filter(one => one.offsetParent).map(one => {
            const range = document.createRange(); range.selectNodeContents(one)
            return [one.innerText, range.getBoundingClientRect()] })
        return boxes.flatMap(([name, a], place) => boxes.slice(place + 1).filter(([, b]) =>
            a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1
        ).map(([other]) => `${name} over ${other}`)) })"""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(script) == [], width
    assert "accumulated_margin" in page.locator("#suspects-1 thead").inner_text()


def tables_sort_and_filter(page: Any) -> None:
    """Tables sort by the numbers in cells, with the keyboard, and filter by a word."""
    page.set_viewport_size({"width": 1440, "height": 900})
    head = page.locator("#table-1 thead th").nth(2)
    head.locator("[tabindex='0']").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#table-1 th[aria-sort=ascending]")
    means = [float(text.split()[0]) for text in page.locator("#table-1 tbody td:nth-child(3)").all_inner_texts()]
    assert means == sorted(means)
    assert head.get_attribute("aria-sort") == "ascending"
    filtering = page.locator("#table").get_by_label(re.compile("^Filter: (accuracy|average.precision)"))
    filtering.fill("hardest")
    page.wait_for_function("document.querySelectorAll('#table-1 tbody tr').length < 3")
    assert set(page.locator("#table-1 tbody th").all_inner_texts()) == {"hardest"}
    filtering.fill("")


def a_point_tells_its_numbers(page: Any) -> None:
    figure = page.locator("#curve figure")
    point = figure.locator(".wide .point").first
    point.hover(force=True)
    title = point.locator("title").text_content()
    assert re.match(r"random, [\d.]+: [\d.]+ ± [\d.]+ %", title), title
    assert figure.locator("figcaption").inner_text() == title


def print_shows_everything(page: Any) -> None:
    """On paper, folded parts are open and no table is cut."""
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 720, "height": 900})  # A4 between its margins
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert page.locator("#methods .note").first.is_visible()
    assert page.evaluate(
        "[...document.querySelectorAll('table')].every(one => one.getBoundingClientRect().right <= 720)"
    )
    shoot(page, "report_in_print")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert not page.locator("#methods .note").first.is_visible()


def pictures_are_shown(page: Any) -> None:
    """Each sample is a picture with a name, and a click enlarges it."""
    page.set_viewport_size({"width": 1440, "height": 900})
    images = page.locator("#suspects img")
    assert images.evaluate_all("all => all.every(one => one.complete && one.naturalWidth >= 8)")
    before = images.first.bounding_box()["height"]
    images.first.click()
    assert images.first.bounding_box()["height"] > 2 * before
    page.goto(f"{page.url.partition('#')[0]}#methods")
    assert page.locator("#methods .note").first.is_visible()


@pytest.mark.parametrize("name", KINDS)
def test_what_goes_to_others(made: Any, name: str) -> None:
    """The page is small; the Markdown contains no HTML, its pictures are beside it; only the page contains samples."""
    folder = made(name)
    html, text = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    assert len(html.encode()) <= MOST
    assert "mathdefault" not in html
    assert "Content-Security-Policy" in html
    shown = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(text)
    inner = [each for token in shown for each in token.children or []]
    assert not [token.content for token in (*shown, *inner) if token.type in ("html_block", "html_inline")]
    pictures = [str(token.attrGet("src")) for token in inner if token.type == "image"]
    assert pictures
    assert all((folder / picture).is_file() for picture in pictures)
    assert sum(token.type == "table_open" for token in shown) >= 5
    if name == "tickets":
        body = next(line for line in (folder.parents[3] / "tickets.csv").read_text().splitlines() if "no0" in line)
        words = body.partition(",")[0]
        assert not any(words in (folder / f"report.{kind}").read_text() for kind in ("md", "json"))


def test_samples_are_embedded_and_said_to_be_or_left_out(made: Any) -> None:
    folder = made("shapes")
    page, before = (folder / "report.html").read_text(), json.loads((folder / "report.json").read_text())
    pictures = page.count('src="data:image/')
    assert pictures == len(before["suspects"]["listed"]) + 2, "suspects, and one of each group: the leak, the duplicate"
    assert f"This page embeds {pictures} samples of the training data" in page
    folder = made("shapes", "--without-samples")
    page, report = (folder / "report.html").read_text(), json.loads((folder / "report.json").read_text())
    assert report == before
    assert "This page embeds no samples of the data" in page
    assert 'src="data:image/' not in page
    assert report["suspects"]["listed"][0]["place"] in page
