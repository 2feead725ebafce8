"""Pages that say how to do one job are followed from their first block to their last, in a folder of their own."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from documents import DOCUMENTS, FENCE, FOLLOWED, ROOT, alike, calls_on, printed_on, python, shell
from local_hub import local_hub, settings_of
from planted import topics

DOCS = ROOT / "docs"
LONG = ("find-wrong-labels.md", "prune-a-file.md")
"""Those that take more than some seconds: they are followed at night."""
PAGES = [pytest.param(page, marks=[pytest.mark.nightly] * (page in LONG)) for page in FOLLOWED]
ENDS_WITH_1 = ("audit tickets.csv --test test.csv --max-leaks 0",)
"""Commands that answer no."""
LEFT_OUT = ("open ", "audit tickets.csv --label queue", "audit tickets.csv --test test.csv --embeddings")
"""Commands that open a browser, or are of a reader's file."""

ONE_SCHEME = {
    "graph.png": "the Dagster UI in its light scheme",
    "launchpad.png": "the Dagster UI in its light scheme, as the browser tests save it",
    "score_ends.png": "the Dagster UI in its light scheme, as the browser tests save it",
    "masked_heads.svg": "the report of a study, in ink for light and dark pages",
}
"""Pictures without a twin for dark pages, and the reason."""


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    """Language, words and text of each block of a page."""
    yield from FENCE.findall((DOCS / page).read_text())


@pytest.mark.parametrize("page", PAGES)
def test_a_page_can_be_followed(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are written, commands run and compared with what the page shows, and Python sees what came before it."""
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {"__name__": "page"}
    ran = 0
    shown = dict(printed_on(DOCS / page))
    for language, words, block in blocks(page):
        if "file=" in words:
            name = words.strip().rpartition("file=")[2]
            (tmp_path / name).write_text(block)
            python(tmp_path, name)
        elif language == "console":
            for call in calls_on(f"```\n{block}```\n"):
                if call.startswith(LEFT_OUT):
                    continue
                done = shell(tmp_path, *shlex.split(call))
                assert done.returncode == int(call.startswith(ENDS_WITH_1)), done.stderr
                printed = done.stdout.replace(f"{tmp_path}/", "")
                assert alike(shown.get(call, "…\n"), printed), f"{page}: `secateur {call}` prints\n{printed}"
                ran += 1
        elif language == "python" and "follow" in words:
            exec(compile(block, page, "exec"), known)
            ran += 1
    assert ran > 2


def block_with(page: str, text: str) -> str:
    """The one block of a page that holds a text."""
    (block,) = [block for _, _, block in blocks(page) if text in block]
    return block


def test_correcting_pictures_loses_none_and_leaves_those_of_other_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes use the same file names, and a test row has the path of a training row."""
    monkeypatch.chdir(tmp_path)
    for place in ("a/1.png", "a/2.png", "b/1.png"):
        (tmp_path / "scans" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "scans" / place).write_text(place)
    rows = [("train", "scans", "a/1.png", "b"), ("test", "held_out", "a/2.png", "b")]
    suspects = pd.DataFrame(rows, columns=["split", "file", "path", "suggested"])
    correct = block_with("find-wrong-labels.md", ".rename(")
    exec(correct, {"suspects": suspects})
    found = {str(path.relative_to("scans")): path.read_text() for path in Path("scans").rglob("*.png")}
    assert found == {"b/a_1.png": "a/1.png", "a/2.png": "a/2.png", "b/1.png": "b/1.png"}
    (tmp_path / "scans" / "a" / "1.png").write_text("another")
    with pytest.raises(FileExistsError, match=r"a_1.png is there"):
        exec(correct, {"suspects": suspects})


def test_correcting_a_table_changes_the_labels_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train, _ = topics(tmp_path, copies=0, leaks=0, wrong=40)
    before = pd.read_csv(train.rename("tickets.csv"), dtype=str, keep_default_na=False)
    done = shell(tmp_path, "audit", "tickets.csv", "--label", "queue", "--exact", "--write", "audit")
    assert done.returncode == 0, done.stderr
    found = pd.read_csv("audit/findings.csv", keep_default_na=False)
    exec(
        block_with("find-wrong-labels.md", "tickets_corrected.csv"),
        {"pd": pd, "suspects": found[found.finding == "wrong labels"]},
    )
    after = pd.read_csv("tickets_corrected.csv", dtype=str, keep_default_na=False)
    changed = np.flatnonzero(before["queue"] != after["queue"])
    assert len(changed) >= 30
    assert np.mean((changed >= 100) & (changed < 140)) > 0.9  # the rows that got a wrong label
    assert after.drop(columns="queue").equals(before.drop(columns="queue"))


FROM_HUB = """
import os, sys
from pathlib import Path
import datasets
from secateur.pipelines.commands.main import main

def saved(data, name):
    data.save_to_disk(name.replace("/", "_"))

datasets.Dataset.push_to_hub = datasets.DatasetDict.push_to_hub = saved
known = {}
for block in sys.argv[1:]:
    if not block.startswith("secateur "):
        exec(block, known)
        continue
    sys.argv = block.split()
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
"""
"""Pushing alone is replaced, by saving; everything else asks the hub of the test."""


def reviews(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Texts whose words tell their label."""
    random = np.random.default_rng(0)

    def rows(count: int) -> pl.DataFrame:
        labels = np.arange(count) % 2
        words = random.integers(0, 30, (count, 6)) + 25 * labels[:, None]
        return pl.DataFrame({"text": [" ".join(f"word{one}" for one in row) for row in words], "label": labels})

    train, test = rows(300), rows(80)
    train.write_parquet(folder / "train.parquet")
    test.write_parquet(folder / "test.parquet")
    return train, test


def followed_with_a_hub(folder: Path, *parts: str) -> str:
    """What the parts of a page print where a hub on this machine has the folder's files."""
    with local_hub("user/name", folder) as (address, asked):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SECATEUR_")}
        environment |= settings_of(address, folder / "cache") | {"COLUMNS": "100"}
        command = [sys.executable, "-c", FROM_HUB, *parts]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert any("/datasets/user/name" in path for path in asked)
    return done.stdout


def test_a_data_set_of_the_hub_is_pruned_and_pushed(tmp_path: Path) -> None:
    import datasets

    train, _ = reviews(tmp_path)
    first, _ = (block for language, words, block in blocks("prune-hub.md") if "hub" in words and language == "python")
    followed_with_a_hub(tmp_path, first)
    for name in ("user_name-pruned", "user_name-random"):
        pushed = datasets.load_from_disk(tmp_path / name)
        assert pushed.column_names == ["text", "label", "el2n"]
        assert len(pushed) == 90
        assert set(pushed["text"]) <= set(train["text"])


@pytest.mark.nightly
def test_what_a_study_of_the_hub_keeps_is_pushed(tmp_path: Path) -> None:
    import datasets

    train, test = reviews(tmp_path)
    parts = ["import datasets, secateur as sc", "datasets.load_dataset('user/name').save_to_disk('saved')"]
    for language, words, block in blocks("prune-hub.md"):
        if language == "console":
            calls = [call for call in calls_on(f"```\n{block}```\n") if not call.startswith(LEFT_OUT)]
            parts += [f"secateur {call}{' --seeds 2' * call.startswith('init ')}" for call in calls]
        elif "hub" in words and "Manifest" in block:
            parts.append(block)
    printed = followed_with_a_hub(tmp_path, *parts)
    [(call, shown)] = printed_on(DOCS / "prune-hub.md")
    end = "then secateur run reviews\n"
    assert call.startswith("init ")
    assert alike(shown, printed.partition(end)[0] + end)
    pushed = datasets.load_from_disk(tmp_path / "user_name-pruned")
    assert len(pushed["train"]) == 90
    assert set(pushed["train"]["text"]) <= set(train["text"])
    assert pushed["test"]["text"] == test["text"].to_list()
    stored = datasets.load_from_disk(tmp_path / "kept")
    assert len(stored["train"]) == 90
    assert stored["test"]["text"] == test["text"].to_list()
    uploaded = datasets.load_dataset(str(tmp_path / "pruned"), split="train", cache_dir=str(tmp_path / "again"))
    assert uploaded["text"] == pushed["train"]["text"]
    assert "hardest" in (tmp_path / "pruned" / "README.md").read_text()


JOBS = {
    "prune-a-file.md": ("coreset", "CSV", "Parquet"),
    "tutorial.md": ("coreset", "pictures"),
    "prune-hub.md": ("Hugging Face", "coreset", "push"),
    "use-in-trainers.md": ("Trainer", "TRL", "Lightning", "accelerate"),
    "find-wrong-labels.md": ("mislabelled", "label errors", "noisy labels"),
    "remove-duplicates.md": ("dedupe", "near-duplicates", "leakage", "contamination"),
    "target.md": ("domain", "target"),
    "fine-tuning.md": ("LLM", "instruction", "SFT"),
    "costs.md": ("seconds", "memory", "disk"),
    "which-selection.md": ("coreset", "random"),
    "recurring.md": ("schedule", "new rows"),
}
"""Pages by job, and words that people search for."""


@pytest.mark.parametrize("page", JOBS)
def test_the_first_lines_have_the_words_that_people_search_for(page: str) -> None:
    first = (DOCS / page).read_text().split("\n\n```")[0].split("\n## ")[0][:900]
    assert not [word for word in JOBS[page] if word.lower() not in first.lower()]


def test_pages_of_jobs_are_among_the_documents() -> None:
    assert not JOBS.keys() - {page.name for page in DOCUMENTS}


def test_the_picture_of_all_selections_is_of_the_figures_on_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pictures

    monkeypatch.setattr(pictures, "IMAGES", tmp_path)
    pictures.selections()
    drawn = sorted(tmp_path.iterdir())
    assert len(drawn) == 2
    for path in drawn:
        assert path.read_bytes() == (ROOT / "docs" / "images" / path.name).read_bytes(), "draw it again"


def test_pictures_have_words_and_a_twin_for_dark_pages() -> None:
    """`NAME_light` and `NAME_dark` with the same words; a <picture> of HTML has a source for dark pages."""
    single = set()
    for page in DOCUMENTS:
        shown = re.findall(r"!\[([^]]*)\]\(([^)\s]+)\)", page.read_text())
        assert all(words.strip() for words, _ in shown), page.name
        single |= {link.rpartition("/")[2] for _, link in shown if "#only-" not in link}
        twins = [
            (words, re.sub(rf"_{scheme}(\.\w+)#only-{scheme}$", r"\1", link), scheme)
            for words, link in shown
            for scheme in ("light", "dark")
            if link.endswith(f"#only-{scheme}")
        ]
        assert not [link for _, link, _ in twins if "#" in link], f"{page.name}: a scheme's picture has its name"
        light, dark = ([one[:2] for one in twins if one[2] == scheme] for scheme in ("light", "dark"))
        assert light == dark, page.name
        for picture in re.findall(r"<picture>.*?</picture>|<img [^>]*>", page.read_text(), re.DOTALL):
            names = re.findall(r'srcset="([^"]+)"|src="([^"]+)"', picture)
            assert 'media="(prefers-color-scheme: dark)" srcset="' in picture, f"{page.name}: {picture}"
            assert all((page.parent / (one or other)).exists() for one, other in names), f"{page.name}: {picture}"
            assert re.search(r'alt="[^"]', picture) or "logo" in picture, f"{page.name}: {picture}"
    assert single == ONE_SCHEME.keys()
