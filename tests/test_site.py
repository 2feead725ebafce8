"""The site, as `make docs` builds it: pages that a browser, a reader of the screen and a program can read."""

import functools
import http.server
import importlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from chromium import chromium, shoot
from documents import DOCUMENTS, ROOT
from filelock import FileLock
from pydantic import BaseModel

from secateur.scorers.lazy import not_installed

ADDRESS = "https://site.example/secateur/"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
OF_THE_THEME = {"landmark-unique", "target-size"}
"""Rules that the theme breaks: boxes of copy buttons have no name, and the menu scrolls below its heading."""
WAYS = ((400, "dark"), (1400, "light"), (400, "light"), (1400, "dark"))
"""Widths in pixels and colour schemes."""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once for all processes of a test run."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared
    with FileLock(shared / "site.lock"):
        if not (shared / "site" / "llms.txt").exists():
            settings = {"NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1", "SECATEUR_SITE_URL": ADDRESS}
            command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(shared / "site")]
            done = subprocess.run(
                command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, check=False, timeout=300
            )
            assert done.returncode == 0, done.stderr
            assert "WARNING" not in done.stderr
    return shared / "site"


EXTRAS = re.compile(r"-c constraints\.txt -e '\.\[([\w,]+)\]'")
"""Extras in commands that install from the clone."""


class Page(HTMLParser):
    """What a page of the site has: identifiers, links, pictures without words, headings."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.names: list[str] = []
        self.links: list[str] = []
        self.wordless: list[str] = []
        self.levels: list[int] = []
        self.loads: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.names += [given["id"]] if given.get("id") else []
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        if tag == "img" and "alt" not in given:
            self.wordless.append(str(given.get("src")))
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag in ("script", "img", "iframe") or (tag == "link" and given.get("rel") == "stylesheet"):
            self.loads.append(str(given.get("src") or given.get("href") or ""))


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_nothing_is_asked_of_other_hosts_and_every_fence_is_understood(pages: dict[Path, Page]) -> None:
    assert len(pages) > 60
    for path, page in pages.items():
        assert not [load for load in page.loads if re.match("https?:|//", load)], path.name
        assert "```" not in path.read_text(), f"{path.name}: a fence that was not understood"


def test_links_lead_to_pages_and_places_on_them(site: Path, pages: dict[Path, Page]) -> None:
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            target, _, place = link.partition("#")
            if re.match(r"\w+:|//", link) or target.startswith(ADDRESS):
                continue
            there = (path.parent / target).resolve() if target else path
            there = there / "index.html" if there.is_dir() else there
            known = pages[there].names if there in pages else None
            if not there.exists() or (place and known is not None and place not in known):
                wrong.append(f"{path.relative_to(site)}: {link}")
    assert not wrong


def test_pictures_have_words_and_headings_go_down_one_by_one(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert not page.wordless, path.name
        assert page.levels.count(1) == 1, f"{path.name}: {page.levels}"
        steps = zip(page.levels, page.levels[1:], strict=False)
        assert all(after <= before + 1 for before, after in steps), f"{path.name}: {page.levels}"
        doubled = {name for name in page.names if page.names.count(name) > 1}
        assert not doubled, f"{path.name}: {doubled}"


def test_programs_find_every_page(site: Path, pages: dict[Path, Page]) -> None:
    """`llms.txt` has the groups of the navigation, each page has a copy in Markdown, the sitemap every address."""
    text = (site / "llms.txt").read_text()
    listed = re.findall(r"^- \[[^]]+\]\(([^)]+)\): (.*)$", text, re.MULTILINE)
    assert {path for path, _ in listed} == {str(path.relative_to(site).with_suffix(".md")) for path in pages}
    descriptions = [description for _, description in listed]
    assert not [description for description in descriptions if not 45 < len(description) < 400]
    assert len(set(descriptions)) == len(descriptions)
    groups = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert groups == [next(iter(group)) for group in yaml.safe_load(navigation())]
    for path, _ in listed:
        copy = (site / path).read_text()
        assert copy.startswith("# ")
        assert "\n::: " not in copy, f"{path}: a directive that no reader understands"
    config = (site / "reference" / "training.md").read_text()
    assert "| `learning_rate` | `float` > 0 ≤ 1,000 | `0.001` | peak of the schedule |" in config
    addresses = re.findall("<loc>(.*?)</loc>", (site / "sitemap.xml").read_text())
    assert {ADDRESS + str(path.relative_to(site)) for path in pages} - set(addresses) <= {ADDRESS + "index.html"}


def navigation() -> str:
    """The part of mkdocs.yml that YAML alone can read."""
    return (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]


def test_without_an_address_there_is_no_empty_sitemap(tmp_path: Path) -> None:
    import site_hooks

    for name in ("sitemap.xml", "sitemap.xml.gz"):
        (tmp_path / name).write_text("")
    config = {"site_dir": str(tmp_path), "site_url": "", "site_name": "s", "site_description": "d", "nav": []}
    before = dict(site_hooks.written)
    site_hooks.written.clear()
    site_hooks.on_post_build(config)
    site_hooks.written.update(before)
    assert [path.name for path in tmp_path.iterdir()] == ["llms.txt"]


def models_on(text: str) -> Iterator[tuple[type[BaseModel], str]]:
    """Pydantic classes that a page of the reference documents, with their parts of the page."""
    for path, part in re.findall(r"^## (secateur\.[\w.]+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL):
        module, _, name = path.rpartition(".")
        one = getattr(importlib.import_module(module), name, None) if name[0].isupper() else None
        if isinstance(one, type) and issubclass(one, BaseModel):
            yield one, part


def test_the_reference_has_fields_and_parameters(site: Path) -> None:
    """Pydantic classes have a signature and their fields, functions and samplers a table with words for each."""
    headings = (site / "reference" / "samplers.html").read_text()
    assert ">secateur.<wbr>selectors.<wbr>samplers.<wbr>contract</span>" in headings, "a long name breaks at its points"
    training = (site / "reference" / "training.md").read_text()
    assert "\\|" not in training, "a bar in code shows its backslash"
    found = {name: part for page in (site / "reference").glob("*.md") for name, part in models_on(page.read_text())}
    assert {"TrainingConfig", "Augmentation", "Distillation", "Declaration", "EpochsPart"} <= {
        model.__name__ for model in found
    }
    for model, part in found.items():
        assert re.search(rf"```python\n{model.__name__}\(\*, \w+: ", part), model
        told = re.findall(r"^\| `(\w+)` \| `.*\| [^|]*\w[^|]* \|$", part, re.MULTILINE)
        assert told == list(model.model_fields), f"{model}: give each field a description"
    for page in ("scorers", "selectors", "samplers"):
        text = (site / "reference" / f"{page}.md").read_text()
        every = text.partition("## Every ")[2] if page != "samplers" else text
        empty = re.findall(r"^\| `(\w+)` \|[^\n]*\|  \|$", every, re.MULTILINE)
        assert not empty, f"{page}: say in the docstring or in parameter_tables.WORDS what these are: {empty}"
        assert every.count("| parameter | type | default | meaning |") > 4


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing of each request."""


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    """The site's address, served as `make docs` says."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


def looked_at(browser: Any, address: str, names: tuple[str, ...], ways: tuple[tuple[int, str], ...]) -> list[str]:
    """What axe finds wrong on these pages, and what does not fit, at these widths and colour schemes."""
    from axe_playwright_python.base import AXE_SCRIPT

    wrong = []
    for width, scheme in ways:
        page = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}).new_page()
        page.set_default_timeout(120_000)
        for name in names:
            page.goto(f"{address}/{name}.html")
            page.evaluate(AXE_SCRIPT)
            found = page.evaluate(f"axe.run({json.dumps({'runOnly': RULES})})")
            assert len(found["passes"]) > 20, "axe looked at nothing"
            seen = [
                (one["id"], one["nodes"][0]["html"]) for one in found["violations"] if one["id"] not in OF_THE_THEME
            ]
            seen += [("does not fit", each) for each in page.evaluate(CUT)]
            wrong += [f"{name} {width} {scheme} {rule}: {where[:200]}" for rule, where in seen]
            shoot(page, f"site_{name.replace('/', '_')}_{width}_{scheme}")
    return wrong


CUT = """() => {
  const wrong = document.documentElement.scrollWidth > innerWidth ? ['the page itself'] : [];
  for (const box of document.querySelectorAll('.table-box')) {
    const style = getComputedStyle(box).overflowX;
    if (box.scrollWidth > box.clientWidth && style !== 'auto') wrong.push('a table that is cut: ' + box.ariaLabel);
    if (box.getBoundingClientRect().right > innerWidth) wrong.push('a table beyond the edge: ' + box.ariaLabel);
  }
  for (const name of document.querySelectorAll('.md-content code.name'))
    if (name.getClientRects().length > 1) wrong.push('a name that breaks: ' + name.textContent);
  return wrong;
}"""
"""Tables whose ends cannot be reached, and names that a line end divides."""


@pytest.mark.browser
def test_pages_can_be_read_on_a_telephone_and_a_desk(browser: Any, served: str) -> None:
    """One page of prose and code on a telephone in the dark, one of wide tables on a desk in the light."""
    assert (
        looked_at(browser, served, ("tutorial",), WAYS[:1]) + looked_at(browser, served, ("scores",), WAYS[1:2]) == []
    )


@pytest.mark.nightly
@pytest.mark.browser
def test_every_page_can_be_read(browser: Any, served: str, site: Path, pages: dict[Path, Page]) -> None:
    names = tuple(str(path.relative_to(site).with_suffix("")) for path in pages)
    assert looked_at(browser, served, names, WAYS) == []


@pytest.mark.browser
def test_copies_are_commands_alone_and_the_search_finds(browser: Any, served: str) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{served}/tutorial.html")
    for words, expected in [
        ("secateur init pictures", "secateur init pictures --keep 0.3"),
        ("load_digits()", "from pathlib import Path"),
    ]:
        block = page.locator(".highlight", has_text=words).first
        block.hover()
        block.locator("button[data-md-type=copy]").click()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.splitlines()[0] == expected
        assert expected.startswith("from") or copied.strip() == expected
    page.locator(".md-search__input").first.click()
    page.keyboard.type("forgetting")
    page.wait_for_selector(".md-search-result__item", state="attached", timeout=120_000)
    assert "Scores" in page.locator(".md-search-result__list").first.text_content()


def test_installation_is_the_same_everywhere() -> None:
    blocks = [
        re.findall(r"<!-- install -->\n(.*?)\n<!-- end of install -->", (ROOT / name).read_text(), re.DOTALL)
        for name in ("README.md", "docs/index.md", "docs/tutorial.md")
    ]
    assert [len(each) for each in blocks] == [1, 1, 1]
    assert len({each[0] for each in blocks}) == 1
    extras = re.findall(r"^(\w+) = \[", declared_extras(), re.MULTILINE)
    assert [extra for extra in extras if f"`{extra}`" not in blocks[0][0]] == []


def test_pages_install_extras_from_the_clone_as_the_block_does() -> None:
    """No registry has the package yet, so `pip install 'secateur[ray]'` installs nothing or a stranger's package."""
    unpublished = re.compile(r"pip install [^`\n]*secateur\[")
    assert unpublished.search("`pip install -q 'secateur[ray]'`")
    changes = (ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md")
    assert not [page.name for page in (*DOCUMENTS, *changes) if unpublished.search(page.read_text())]
    named = {name for page in DOCUMENTS for part in EXTRAS.findall(page.read_text()) for name in part.split(",")}
    assert {"trl", "ray"} <= named <= set(re.findall(r"^(\w+) = \[", declared_extras(), re.MULTILINE))


def test_errors_name_extras_that_there_are_and_install_them_as_pages_do() -> None:
    declared = set(re.findall(r"^(\w+) = \[", declared_extras(), re.MULTILINE))
    folders = ("scorers", "selectors", "trainers", "pipelines")
    code = [path.read_text() for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    calls = [re.findall(r"not_installed\([^,]+, ['\"](\w+)['\"]\)", text) for text in code]
    named = {extra for found in calls for extra in found}
    assert {"cleanlab", "lance", "language", "mlflow", "ray", "structured"} <= named <= declared
    assert sum("install the extra" in text for text in code) == 1, "not_installed words it for all"
    told = not_installed("Ray", "ray")
    assert EXTRAS.findall(told) == ["ray"]
    assert told.startswith("Ray is not installed: install the extra `ray` ")


def declared_extras() -> str:
    text = (ROOT / "pyproject.toml").read_text()
    return text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]


def test_project_files_are_sound() -> None:
    """The citation has what its format asks for, and no field that nobody filled in; templates are forms."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert cited["version"] in (ROOT / "pyproject.toml").read_text()
    assert not {"doi", "url", "repository-code"} & cited.keys()
    templates = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(templates) == 3
    for template in templates:
        form = yaml.safe_load(template.read_text())
        assert {"name", "description", "body"} <= form.keys()
        assert all(field["attributes"]["label"] for field in form["body"])
    texts = [(ROOT / name).read_text() for name in ("CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")]
    assert not [text for text in texts if re.search(r"TODO|example\.com|@\w+\.\w+|https?://", text)]
