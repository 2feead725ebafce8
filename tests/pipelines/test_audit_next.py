"""Use of an audit's results: apply its manifests, mark its page, run the audited study."""

import html
import json
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

import secateur as sc
from secateur.pipelines.audits.marking import precisions, read_marks
from secateur.pipelines.commands.main import app
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.pages.audit_page import AuditPage, Shown, Side
from tests.support.planted import nearly, sentence
from tests.support.shell_here import secateur_here

ROWS = pl.DataFrame({"body": [f"the {row} of words" for row in range(20)]})


def test_a_manifest_applies_to_the_folder_that_was_audited(tmp_path: Path) -> None:
    rng, pictures = np.random.default_rng(0), tmp_path / "pictures"
    for split, count in (("train", 12), ("test", 4)):
        for number in range(count):
            folder = pictures / split / f"class {number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(folder / f"{number}.png")
    first = pictures / "train" / "class 0" / "0.png"
    (first.parent / "copy.png").write_bytes(first.read_bytes())
    sc.audit(pictures, near=False, progress=False).save(tmp_path / "of_pictures")
    manifest = Manifest.load(tmp_path / "of_pictures" / "manifests" / "deduplicated")
    manifest.apply(pictures, output=tmp_path / "kept")
    assert len(list((tmp_path / "kept").glob("class */*.png"))) == 12
    tables = tmp_path / "tables"
    tables.mkdir()
    pl.concat([ROWS, ROWS[3:5]]).write_csv(tables / "train.csv")
    ROWS[:2].write_csv(tables / "test.csv")
    sc.audit(tables, near=False, progress=False).save(tmp_path / "of_tables")
    Manifest.load(tmp_path / "of_tables" / "manifests" / "deduplicated").apply(tables, output=tmp_path / "kept.csv")
    assert pl.read_csv(tmp_path / "kept.csv").equals(ROWS)


def test_the_page_says_that_labels_were_not_looked_at() -> None:
    found = sc.audit(ROWS, near=False, progress=False)
    assert found.summary["labels_not_looked_at"] == "no labels are known"
    assert "Labels were not looked at: no labels are known." in html.unescape(AuditPage(found.audit).html())


def test_a_study_takes_marks_of_its_page_and_is_run_by_the_path_that_was_given(tmp_path: Path) -> None:
    rng = random.Random(0)
    texts = [sentence(rng) for _ in range(40)]
    pl.DataFrame({"body": [*texts, *(nearly(text, rng) for text in texts[:5])]}).write_csv(tmp_path / "train.csv")
    content = {
        "name": "marked", "source": {"kind": "csv", "train": "train.csv"}, "columns": {"text": "body"},
        "selections": {"uniform_random": None}, "keep": [0.5],
    }  # fmt: skip
    study = tmp_path / "marked study.yaml"
    study.write_text(yaml.safe_dump(content))
    home = {"SECATEUR_HOME": str(tmp_path / "home")}
    assert secateur_here("run", str(study), **home).returncode == 0
    asked = secateur_here("audit", str(study), **home)
    assert asked.returncode == 0, asked.stderr
    assert f"secateur run '{study}' puts these findings into the report" in asked.stdout.replace("\n", "")
    lines = pl.read_csv(tmp_path / "home" / "assets" / "marked" / "audit" / "findings.csv").filter("to_mark")
    assert len(lines)
    lines.with_columns(mark=pl.lit("yes")).write_csv(tmp_path / "marks.csv")
    done = secateur_here("audit", str(study), "--marks", str(tmp_path / "marks.csv"), "--json", **home)
    assert done.returncode == 0, done.stderr
    [told] = json.loads(done.stdout)["precision"]
    assert (told["right"], told["marked"]) == (len(lines), len(lines))


@pytest.mark.parametrize(("charset", "advice"), [("latin-1", "for example latin-1 or cp1252"), ("utf-16", "utf-16")])
def test_a_file_of_another_encoding_is_read_by_its_name(tmp_path: Path, charset: str, advice: str) -> None:
    path = tmp_path / "data.csv"
    lines = ["body;queue", *(f"Müller {row % 19}, ganz schön;b" for row in range(20))]
    path.write_bytes("\n".join(lines).encode(charset))
    with pytest.raises(ValueError, match=f"write the encoding of the file as --charset, {advice}") as raised:
        raise CliRunner().invoke(app, ["audit", str(path)]).exception or AssertionError("it was read")
    assert "source." not in str(raised.value)
    with pytest.raises(ValueError, match="charset="):
        sc.audit(path, progress=False)
    with pytest.raises(ValueError, match="there is no such encoding"):
        sc.audit(path, charset="klingon", progress=False)
    found = sc.audit(path, charset=charset, near=False, progress=False)
    assert found.lines["text"].unique().to_list() == ["Müller 0, ganz schön"]
    found.save(tmp_path / "audit")
    Manifest.load(tmp_path / "audit" / "manifests" / "deduplicated").apply(path, output=tmp_path / "kept.csv")
    assert (tmp_path / "kept.csv").read_bytes().decode(charset).splitlines() == lines[:-1]
    assert CliRunner().invoke(app, ["audit", str(path), "--charset", charset, "--exact"]).exit_code == 0


def test_a_column_is_not_label_and_input_at_once(tmp_path: Path) -> None:
    chats = [{"messages": [{"role": "user", "content": f"what is {row % 9}?"}]} for row in range(12)]
    for data, text in ((ROWS, "body"), (chats, None)):
        label = text or "messages"
        with pytest.raises(ValueError, match=f"^column '{label}' is named as the label and as the input"):
            sc.audit(data, text=text, label=label, progress=False)


def test_a_column_may_be_named_by_a_number() -> None:
    table = ROWS.to_pandas().assign(label=[row % 2 for row in range(20)]).set_axis([0, 1], axis=1)
    found = sc.audit(table, label=1, near=False, progress=False)
    assert "label: 1 (you said so)" in found.summary["notes"]


def test_files_of_conversations_are_named_as_others_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pl.DataFrame({"messages": [[{"role": "user", "content": "so?"}]] * 2}).write_ndjson("chat.jsonl")
    found = sc.audit("chat.jsonl", near=False, progress=False)
    assert found.findings[0]["rows"] == [["chat.jsonl", 0], ["chat.jsonl", 1]]


def test_marks_count_however_paths_are_spelled_and_may_not_contradict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = {"finding": "near duplicates", "split": "train", "row": 3, "other_row": 1, "to_mark": True}
    lines = pl.DataFrame([line | {"file": "train.csv", "other_file": "train.csv"}])
    marks = lines.with_columns(file=pl.lit("./train.csv"), other_file=pl.lit(str(tmp_path / "train.csv")))
    marks.with_columns(mark=pl.lit("yes")).write_csv("marks.csv")
    [told], strange = precisions(lines, read_marks(Path("marks.csv")))
    assert (told.finding, told.split, told.right, told.marked, strange) == ("near duplicates", "train", 1, 1, 0)
    marks.select(pl.all().repeat_by(2).explode()).with_columns(mark=pl.Series(["yes", "no"])).write_csv("torn.csv")
    with pytest.raises(ValueError, match=r"torn\.csv, rows 0, 1: one finding is marked yes and no"):
        read_marks(Path("torn.csv"))


def test_what_is_nearly_equal_is_not_shown_as_equal() -> None:
    side = Side("train, 0", "")
    facts = [Shown(side, None, {"similarity": alike, "measure": ""}).facts for alike in (0.9997, 1.0, 0.9)]
    assert facts == ["similarity over 0.999", "similarity 1.000", "similarity 0.900"]
