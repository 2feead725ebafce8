"""huggingface_hub parses the cards, datasets loads the Hub folders."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from huggingface_hub import DatasetCard
from hypothesis import given
from hypothesis import strategies as st

from secateur.pipelines.exports.card import prose, size_category
from secateur.pipelines.exports.registry import export
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest

ManifestOf = Callable[..., Manifest]
COLUMNS = {"text": "text", "label": "label"}
ROWS = [0, 2, 5]


@pytest.fixture
def texts() -> datasets.Dataset:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["ant", "bee"])})
    table = {"text": [f"t{row}" for row in range(8)], "label": [row % 2 for row in range(8)]}
    return datasets.Dataset.from_dict(table, features=features)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    table = [["selection", "accuracy %"], ["random", "70 ± 1"], ["hardest", "72 ± 1"]]
    path.write_text(
        json.dumps(
            {"study": "samples", "verdict": "No better than random.", "table": table, "note": "One family.", "rows": []}
        )
    )
    return path


def test_card_says_what_was_done(texts: datasets.Dataset, manifest_of: ManifestOf, report: Path) -> None:
    manifest = manifest_of(texts, COLUMNS, ROWS, license="mit")
    path = export(manifest, "card", settings={"report": str(report)})
    card = DatasetCard.load(path)
    assert card.data.size_categories == ["n<1K"]
    assert card.data.task_categories == ["text-classification"]
    assert card.data.license == "mit"
    assert card.data.pruning == {
        "dataset": "samples", "revision": "r1", "fingerprint": manifest.declaration.fingerprint, "kept": 3, "of": 8,
        "keep": 3, "selection": "some", "selector": "top", "selector_version": "1", "seed": 0,
        "settings": '{"end": "high"}', "scores": [], "manifest": manifest.declaration.root,
    }  # fmt: skip
    assert "No better than random." in card.text
    assert "| 0 | ant | 4 | 2 |" in card.text
    assert DatasetCard(str(card)).data.to_dict() == card.data.to_dict()


def test_a_hub_folder_loads_by_its_card(texts: datasets.Dataset, manifest_of: ManifestOf, tmp_path: Path) -> None:
    path = export(manifest_of(texts, COLUMNS, ROWS), "hub", dataset=texts, settings={"row_column": "row"})
    assert DatasetCard.load(path / "README.md").data.pruning["kept"] == 3
    found = datasets.load_dataset(str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert list(found["row"]) == ROWS
    assert found.features["label"].names == ["ant", "bee"]
    assert found.remove_columns("row").to_dict() == texts.select(ROWS).to_dict()


def test_reports_of_other_data_and_no_reports_are_refused(
    texts: datasets.Dataset, manifest_of: ManifestOf, report: Path, tmp_path: Path
) -> None:
    manifest = manifest_of(texts, COLUMNS, ROWS, dataset="other")
    for content, said in (
        (report.read_text(), "reports on 'samples', but the manifest is of 'other'"),
        ('{"study": "other", "verdict": 7, "table": []}', "is no report of a study: verdict"),
        ("[" * 100_000, "is no report of a study"),
    ):
        report.write_text(content)
        with pytest.raises(ManifestError, match=said):
            export(manifest, "card", settings={"report": str(report)})
    with pytest.raises(ManifestError, match="cannot export"):
        export(manifest, "card", settings={"report": str(tmp_path / "nowhere.json")})
    assert not manifest.path.with_name("m_card.md").exists()


def test_no_name_breaks_out_of_its_place(texts: datasets.Dataset, manifest_of: ManifestOf) -> None:
    nasty = "x\n---\nlicense: mine\n---\n# <script>alert(1)</script> | [a](javascript:1) `b` {{ c }}"
    manifest = manifest_of(
        texts, COLUMNS, ROWS, dataset=nasty, revision=nasty, selection=nasty, selector=nasty, settings={nasty: nasty},
        label_names=[nasty, "bee | bee"],
    )  # fmt: skip
    card = DatasetCard.load(export(manifest, "card"))
    assert card.data.license is None
    assert card.data.pruning["dataset"] == " ".join(nasty.split())
    plain = re.sub(r"`[^`]*`", "", card.text.replace("\\`", ""))
    assert "<script>" in card.text
    assert "<script>" not in plain
    rows = [line for line in card.text.splitlines() if line.startswith("| 1 |")]
    assert rows == ["| 1 | bee \\| bee | 4 | 1 |"]


@given(st.integers(1, 10**13))
def test_size_category_holds_the_size(count: int) -> None:
    units = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
    bounds = [
        int(part[:-1]) * units[part[-1]] for part in size_category(count).replace(">", "<").split("<") if part != "n"
    ]
    word = size_category(count)
    if word.startswith("n<"):
        assert count < bounds[0]
    elif word.startswith("n>"):
        assert count >= bounds[0]
    else:
        assert bounds[0] <= count < bounds[1] == 10 * bounds[0]


@given(st.text(max_size=80))
def test_prose_is_one_line_without_markup(text: str) -> None:
    shown = prose(text)
    assert "\n" not in shown
    assert "<" not in shown
    assert all(shown[place - 1] == "\\" for place, letter in enumerate(shown) if letter in "|`[")
