"""Class names, texts, columns and file names with control characters or markup appear as text everywhere."""

import html
import json
import re
import unicodedata
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt
from small_studies import REST
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.pipelines.data.source_kinds.files import SourceError, files_in, find
from secateur.pipelines.files.shown_text import in_markdown, one_line, visible
from secateur.pipelines.materialise import instance_at
from secateur.pipelines.pages.score import boxes
from secateur.pipelines.pages.words import as_html, as_text
from secateur.pipelines.storage.home import home

shell = CliRunner()
HOSTILE = (
    "\x1b[31mred\x1b]0;title\x07",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1)) `code` | **bold**",
    "=cmd|' /C calc'!A1 \u202egnp.exe",
    "![seen](http://track.er/a.png)",
)
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_visible_keeps_what_people_write_and_no_character_that_is_obeyed() -> None:
    kept = "हिन्दी में, 日本語, עברית, می‌خواهم, 👩‍👩‍👧, é e\u0301, tab\tand\nline, =1+1"
    assert visible(kept) == kept
    assert visible("a\x1b[31m\0\x9b\u202e\ud800\x7f") == r"a\x1b[31m\x00\x9b\u202e\ud800\x7f"
    for code in range(0x3000):
        shown = one_line(f"a{chr(code)}b")
        assert not any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in shown), hex(code)
    assert one_line("two\nlines and\tmore", 12) == "two lines a…"
    assert boxes(np.zeros(2, np.float32), np.zeros(2, np.int64), ["\x1b[31m"])[0].title == r"\x1b[31m"


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_the_text(text: str) -> None:
    (paragraph,) = [
        token for token in MarkdownIt("gfm-like", {"linkify": False}).parse(in_markdown(text)) if token.children
    ]
    assert {token.type for token in paragraph.children or []} <= {"text", "text_special"}
    assert "".join(token.content for token in paragraph.children or []) == one_line(text)


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder with a study of texts, classes and a file with such names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECATEUR_STUDIES", "studies")
    (tmp_path / "studies").mkdir()
    file = "<b>\x9b31m_![a](b).jsonl"
    rows = [{"text": f"{HOSTILE[at % 5]} word{at % 7} number{at}", "kind": HOSTILE[at % 5]} for at in range(100)]
    (tmp_path / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"kind": "jsonl", "train": f"../{file}", "test_fraction": 0.3}
    content = {
        "name": "strange",
        "source": source,
        "columns": {"text": "text", "label": "kind"},
        **yaml.safe_load(REST),
    }
    (tmp_path / "studies/strange.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def test_a_study_of_such_data_is_shown_as_text(named: Path) -> None:
    """In the terminal, in the report, in the UI, on the card, and in messages."""
    ran = shell.invoke(app, ["run", "strange", "--json"])
    assert ran.exit_code == 0, (ran.output, ran.exception)
    manifest = json.loads(ran.stdout)["manifest"]
    card = named / "card.md"
    printed = [shell.invoke(app, arguments).output for arguments in (["run", "strange"], ["explain", manifest, "0"])]
    exported = shell.invoke(app, ["export", manifest, "--to", "card", "-o", str(card)])
    assert exported.exit_code == 0, (exported.output, exported.exception)
    report = Path(json.loads(ran.stdout)["report_file"])
    shown = [*printed, report.read_text(), report.with_suffix(".md").read_text(), card.read_text()]
    for text in shown:
        assert not OBEYED.search(text), text
    for text in (*shown[-2:], *rendered_in_the_ui()):
        assert not OBEYED.search(text), text
        for token in MarkdownIt("gfm-like", {"linkify": False}).parse(text):
            assert token.type != "html_block", token.content
            for inner in token.children or []:
                assert inner.type != "html_inline", inner.content
                outside = str(inner.attrGet("src") or inner.attrGet("href") or "data:")
                own = re.fullmatch(r"[a-z_]+\.svg", outside)  # a picture of the report, beside it
                assert own or outside.startswith(("data:", "https://arxiv", "https://doi", "#")), inner.attrs
    assert "<img src=x" not in report.read_text()


@pytest.mark.parametrize("name", ["a\x1b[31m.jsonl", "a\n.jsonl", "a\udcff.jsonl"])
def test_a_file_whose_name_no_manifest_holds_is_refused_before_it_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(SourceError, match=r"source.train: .* rename it"):
        find(["*.jsonl"], tmp_path, "train")
    with pytest.raises(SourceError, match=r"rename it"):
        files_in(tmp_path)


def rendered_in_the_ui() -> list[str]:
    """Every Markdown of every materialisation, which the UI renders, and every text."""
    with instance_at(home()) as instance:
        texts = []
        for key in instance.all_asset_keys():
            records = instance.fetch_materializations(key, limit=100).records
            assert records
            for event in records:  # of every partition, as any may end last
                assert event.asset_materialization
                for value in event.asset_materialization.metadata.values():
                    if isinstance(value, dg.MarkdownMetadataValue) and value.md_str:
                        texts.append(value.md_str)
    assert len(texts) > 10
    return texts


def test_commands_in_our_own_words_are_code_on_a_page_and_in_markdown() -> None:
    said = "Not settled <yet>: `secateur run a_b` trains them, `training: {epochs: …}` | not"
    page = as_html(said)
    assert re.findall("<code>(.*?)</code>", page) == ["secateur run a_b", "training: {epochs: …}"]
    assert html.unescape(re.sub("</?code>", "", page)) == said.replace("`", "")
    parsed = MarkdownIt("gfm-like", {"linkify": False}).parse(as_text(said))
    inside = [token for token in parsed[1].children or () if token.type in ("text", "code_inline")]
    assert [token.content for token in inside if token.type == "code_inline"] == [
        "secateur run a_b",
        "training: {epochs: …}",
    ]
    assert "".join(token.content for token in inside) == said.replace("`", "")
    hostile = "class 'a` <img src=x> [b](c)'"
    assert "<img" not in as_html(hostile)
    assert "<img" not in as_text(hostile)
