"""`secateur audit` and `secateur.audit`: from files with planted faults to findings, limits and exit codes."""

import html
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pytest
from PIL import Image
from typer.testing import CliRunner

import secateur as sc
from secateur.pipelines.commands.main import app
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest
from tests.support.planted import LEAKED, Planted, planted


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Files of texts with leaks, copies and conflicts at known rows."""
    return planted(tmp_path_factory.mktemp("texts"))


def shell(*words: str) -> tuple[int, Any, str]:
    """Exit code, printed JSON, and standard error."""
    done = CliRunner().invoke(app, ["audit", *words, "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, json.loads(done.stdout) if done.stdout.strip() else None, done.stderr


def rows_in(answer: dict[str, Any], kind: str, split: str) -> list[int]:
    """Rows of a finding, ascending; empty without the finding."""
    found = [one for one in answer["findings"] if (one["kind"], one["split"]) == (kind, split)]
    return sorted(row for one in found for _, row in one["rows"])


def test_what_was_planted_is_found_in_every_part(texts: Planted) -> None:
    code, answer, _ = shell(
        str(texts.train), "--test", str(texts.test), "--against", str(texts.benchmark), "--against", str(texts.clean),
        "--text", "body", "--label", "queue",
    )  # fmt: skip
    assert code == 0
    assert answer["rows"] == {"train": 66, "test": 30, str(texts.benchmark): 3, str(texts.clean): 2}
    assert rows_in(answer, "leaked", "test") == list(range(LEAKED))
    assert rows_in(answer, "near leaked", "test") == [LEAKED]
    assert rows_in(answer, "near duplicates", "train") == [40, 64]
    assert rows_in(answer, "leaked", str(texts.benchmark)) == [0, 1]
    assert rows_in(answer, "overlap", str(texts.benchmark)) == [0, 1]
    assert rows_in(answer, "leaked", str(texts.clean)) == []
    assert rows_in(answer, "duplicates", "train") == [10, 11, 20, 60, 61, 62]
    assert rows_in(answer, "conflicts", "train") == [20, 62]
    assert rows_in(answer, "unreadable", "train") == [63]
    assert (answer["leaks"], answer["duplicates"], answer["conflicts"]) == (LEAKED + 3, 4, 2)


def test_both_measures_of_contamination_of_every_part(texts: Planted, tmp_path: Path) -> None:
    """JSON, shell and page, against a plain count of runs of words."""
    words = [
        str(texts.train), "--test", str(texts.test), "--against", str(texts.benchmark), "--against", str(texts.clean),
        "--text", "body", "--no-label",
    ]  # fmt: skip
    _, answer, _ = shell(*words, "--page", str(tmp_path / "audit.html"))
    bodies = {
        "test": pl.read_csv(texts.test)["body"],
        str(texts.benchmark): pl.read_ndjson(texts.benchmark)["question"],
    }
    train = [text.split() for text in pl.read_csv(texts.train)["body"].drop_nulls()]
    for name, body in bodies.items():
        told = answer["contamination"][name]
        shares = [covered(text.split(), train, most=8) for text in body]
        hits = [row for row, text in enumerate(body) if covered(text.split(), train, most=13)]
        assert (told["rows"], told["overlap_13"]) == (len(body), len(hits))
        assert told["covered"] == pytest.approx(np.mean(shares))
        assert sorted(one["row"] for one in told["worst"]) == hits
        assert [one["covered"] for one in told["worst"]] == sorted((shares[row] for row in hits), reverse=True)
        assert f"13-gram overlap in {len(hits)} rows of {len(body)}" in told["sentence"]
        assert f"covered tokens {np.mean(shares):.1%} on average" in told["sentence"]
    assert {one["file"] for one in answer["contamination"]["test"]["worst"]} == {str(texts.test)}
    assert answer["contamination"][str(texts.clean)]["worst"] == []
    page = html.unescape((tmp_path / "audit.html").read_text())
    printed = "".join(CliRunner().invoke(app, ["audit", *words]).stdout.split())
    for told in answer["contamination"].values():
        assert told["sentence"] in page
        assert "".join(told["sentence"].split()) in printed


def covered(item: list[str], train: list[list[str]], *, most: int) -> float:
    """Share of an item's words in runs that are in training: of `most` words, or half the item's, and at least 3."""
    run = min(most, max(3, len(item) // 2))
    known = {tuple(text[place : place + run]) for text in train for place in range(len(text) - run + 1)}
    hit = [place for place in range(len(item) - run + 1) if tuple(item[place : place + run]) in known]
    return len({word for place in hit for word in range(place, place + run)}) / len(item)


def test_a_label_that_nothing_shows_is_not_guessed(texts: Planted) -> None:
    _, answer, _ = shell(str(texts.train))
    assert answer["conflicts"] == 0
    assert "label: none (name it with --label, such as --label queue)" in answer["notes"]


def test_the_input_is_not_suggested_as_label(tmp_path: Path) -> None:
    alone, table = tmp_path / "alone.csv", pl.DataFrame({"body": [f"the lamp of room {i} is out" for i in range(30)]})
    table.write_csv(alone)
    assert "label: none (name it with --label)" in shell(str(alone))[1]["notes"]
    both = tmp_path / "both.csv"
    table.select(pl.int_range(30).alias("price") * 7 % 31, "body").write_csv(both)
    assert "label: none (name it with --label, such as --label price)" in shell(str(both), "--text", "body")[1]["notes"]


@pytest.mark.parametrize("content", [None, "", "finding,split\nx\n"])
def test_marks_that_are_no_file_of_marks_are_named(texts: Planted, tmp_path: Path, content: str | None) -> None:
    marks = tmp_path / "marks.csv"
    if content is not None:
        marks.write_text(content)
    with pytest.raises(ValueError, match=r"marks\.csv: (there is no such file|it is no CSV|there is no column)"):
        shell(str(texts.train), "--marks", str(marks))


def test_output_that_nobody_reads_to_its_end_is_no_exceeded_limit(texts: Planted) -> None:
    code = "import sys; from secateur.pipelines.commands.entry import main; main()"
    command = [sys.executable, "-c", code, "audit", str(texts.train), "--label", "queue", "--exact", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 141
    assert b"Traceback" not in errors
    assert b"BrokenPipe" not in errors


def test_a_column_that_is_guessed_to_be_no_feature_and_gives_the_label_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = np.sort(rng.integers(0, 3, 300))
    table = pl.DataFrame({"id": np.arange(300), "x": rng.normal(size=300), "z": rng.normal(size=300), "label": label})
    table.write_csv(tmp_path / "sorted.csv")
    _, answer, _ = shell(str(tmp_path / "sorted.csv"), "--label", "label")
    assert any(note.startswith("left out: id") for note in answer["notes"])
    [text] = [one["text"] for one in answer["findings"] if one["kind"] == "label leak"]
    assert text.startswith("column 'id' alone gives the label")
    assert "leave it out of training" in text
    _, answer, _ = shell(str(tmp_path / "sorted.csv"), "--label", "label", "--features", "x", "--features", "z")
    assert not [one for one in answer["findings"] if one["kind"] == "label leak"]


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        (["--max-leaks", "0"], 1),
        (["--max-leaks", str(LEAKED + 1)], 0),
        (["--max-leaks", "1%"], 1),
        (["--max-duplicates", "3"], 1),
        pytest.param(["--max-duplicates", "4"], 0, marks=pytest.mark.nightly),
        pytest.param(["--max-duplicates", "0.5"], 0, marks=pytest.mark.nightly),
        (["--max-conflicts", "1"], 1),
    ],
)
def test_an_exceeded_limit_is_exit_code_1(texts: Planted, limit: list[str], code: int) -> None:
    done, answer, errors = shell(str(texts.train), "--test", str(texts.test), "--label", "queue", *limit)
    assert done == code
    assert len(answer["exceeded"]) == code
    assert ("exceed the limit" in errors) == bool(code)


def test_labels_that_no_model_can_predict_are_not_judged(texts: Planted) -> None:
    done, answer, _ = shell(str(texts.train), "--label", "queue", "--max-wrong-labels", "100%")
    assert "no more than chance would" in answer["labels_not_looked_at"]
    assert (done, answer["wrong_labels"], rows_in(answer, "wrong labels", "train")) == (1, {}, [])
    assert answer["exceeded"] == [f"how many wrong labels there are is not known: {answer['labels_not_looked_at']}"]


@pytest.mark.parametrize(("limit", "code"), [("0", 1), ("5%", 1), ("20%", 0)])
def test_limits_of_wrong_labels(tmp_path: Path, limit: str, code: int) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 400)
    given = np.where(rng.random(400) < 0.1, 1 - label, label)
    table = pl.DataFrame({"x": label + 0.1 * rng.normal(size=400), "z": rng.normal(size=400), "label": given})
    table.write_csv(tmp_path / "table.csv")
    done, answer, _ = shell(str(tmp_path / "table.csv"), "--label", "label", "--max-wrong-labels", limit)
    assert (done, len(answer["exceeded"])) == (code, code)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--label", "que"], r"there is no column 'que'; did you mean 'queue'"),
        (["--test", "nowhere.csv"], r"there is no file or folder 'nowhere.csv'"),
        (["--group", "shop"], r"there is no column 'shop'"),
    ],
)
def test_bad_input_is_told_with_its_name(texts: Planted, options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shell(str(texts.train), *options)


def test_a_benchmark_without_a_text_is_refused_by_name(texts: Planted, tmp_path: Path) -> None:
    (tmp_path / "numbers.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(ValueError, match=r"numbers.csv: no column looks like the text that training has as 'body'"):
        shell(str(texts.train), "--against", str(tmp_path / "numbers.csv"))


def test_a_table_in_hand_is_audited_and_nothing_is_left(texts: Planted, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    train, test = pl.read_csv(texts.train), pl.read_csv(texts.test)
    found = sc.audit(train, test=test.to_pandas(), text="body", label="queue", progress=False)
    assert {one["kind"] for one in found.findings} >= {"leaked", "duplicates", "conflicts", "unreadable"}
    leaks = found.pairs.filter(pl.col("finding") == "leaked")
    assert leaks["text"].to_list() == leaks["other_text"].to_list() == test["body"].head(LEAKED).to_list()
    assert set(leaks["other_file"]) == {"the data"}
    cleaned = train.filter(found.keep("deduplicated"))
    assert cleaned["body"].drop_nulls().n_unique() == cleaned["body"].drop_nulls().len()
    assert not set(train.filter(found.keep("without_leaks"))["body"].drop_nulls()) & set(test["body"])
    assert "leaked" in found._repr_html_()
    assert "also in train" in repr(found)
    del found, leaks
    assert not list(tmp_path.iterdir())


def test_an_audit_needs_neither_dagster_nor_torch(texts: Planted) -> None:
    code = (
        f"import sys, secateur as sc; sc.audit({str(texts.train)!r}, label='queue', progress=False)\n"
        "assert not {'torch', 'dagster'} & set(sys.modules), [n for n in ('torch', 'dagster') if n in sys.modules]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_conversations_are_read_as_texts(tmp_path: Path) -> None:
    chats = [
        [{"role": "user", "content": f"what is {row % 9}?"}, {"role": "assistant", "content": "it"}]
        for row in range(10)
    ]
    lines = [json.dumps({"messages": chat, "meta": {"source": row}}) for row, chat in enumerate(chats)]
    (tmp_path / "chat.jsonl").write_text("\n".join(lines))
    found = sc.audit(tmp_path / "chat.jsonl", progress=False)
    assert [(one["kind"], [row for _, row in one["rows"]]) for one in found.findings] == [("duplicates", [0, 9])]
    assert found.findings[0]["rows"][0][0].endswith("chat.jsonl")
    assert found.lines["text"][0] == "user: what is 0? assistant: it"
    assert "text: messages (it holds conversations)" in found.summary["notes"]
    named = sc.audit(tmp_path / "chat.jsonl", text="messages", progress=False)
    assert "text: messages (you said so)" in named.summary["notes"]
    in_hand = sc.audit([{"messages": chat} for chat in chats], against=tmp_path / "chat.jsonl", progress=False)
    assert in_hand.audit.leaks == 10
    turns = [[{"from": "human", "value": "what is 3?"}, {"from": "gpt", "value": "it"}]]
    other = sc.audit(
        pl.DataFrame({"messages": chats}), against=[pl.DataFrame({"conversations": turns})], progress=False
    )
    assert other.audit.leaks == 1
    spoken = sc.audit([{"messages": chats[3][::-1]}], against=[pl.DataFrame({"conversations": turns})], progress=False)
    assert spoken.audit.leaks == 0


def test_conversations_may_begin_with_an_empty_one(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "what is this?"}, {"role": "assistant", "content": "a kettle"}]
    lines = [json.dumps({"messages": chat}) for chat in (None, [], turns, turns)]
    (tmp_path / "chat.jsonl").write_text("\n".join(lines))
    _, answer, _ = shell(str(tmp_path / "chat.jsonl"))
    assert rows_in(answer, "unreadable", "train") == [0, 1]
    assert rows_in(answer, "duplicates", "train") == [2, 3]


@pytest.mark.parametrize("turn", [("role", "content"), ("from", "value")])
def test_manifests_of_conversations_apply_to_their_file(tmp_path: Path, turn: tuple[str, str]) -> None:
    who, words = turn
    rows = [
        {"id": row, "messages": [{who: "user", words: f"what is {row % 9}?"}, {who: "assistant", words: "it"}],
         "good": ["yes", "no"][row % 9 % 2]}
        for row in range(12)
    ]  # fmt: skip
    lines = [json.dumps(row) for row in rows]
    data = tmp_path / "chat.jsonl"
    data.write_text("\n".join(lines) + "\n")
    sc.audit(data, label="good", near=False, progress=False).save(tmp_path / "audit")
    at = tmp_path / "audit" / "manifests" / "deduplicated"
    done = CliRunner().invoke(app, ["apply", str(at), str(data), "-o", str(tmp_path / "kept.jsonl")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "kept.jsonl").read_text().splitlines() == lines[:9]
    manifest = Manifest.load(at)
    table = pl.DataFrame(rows)
    table.write_parquet(tmp_path / "chat.parquet")
    manifest.apply(tmp_path / "chat.parquet", output=tmp_path / "kept.parquet")
    assert pl.read_parquet(tmp_path / "kept.parquet").equals(table[:9])
    assert manifest.apply(rows) == rows[:9]
    assert manifest.apply(datasets.Dataset.from_list(rows))["id"] == list(range(9))
    moved = [*rows[4:], *rows[:4]]
    assert sorted(row["messages"][0][words] for row in manifest.apply(moved)) == [f"what is {n}?" for n in range(9)]
    with pytest.raises(ManifestError, match=r"holds .*, and the manifest was made of conversations"):
        manifest.apply([{"messages": "what is 3?", "good": "no"}])
    other = [{**row, "messages": [{who: "user", words: "something else"}]} for row in rows]
    with pytest.raises(ManifestError, match="it was not made from this data: 9 of its 9 kept samples are missing"):
        manifest.apply(other)


def test_numbers_and_sets_of_labels_are_audited() -> None:
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"a": rng.random(40), "b": rng.random(40), "y": rng.random(40)})
    again = pl.concat([table, table[:2], table[2:3].with_columns(y=pl.lit(5.0))])
    found = sc.audit(again, label="y", test=table[5:7], progress=False)
    told = {(one["kind"], one["split"]): one["count"] for one in found.findings}
    assert told == {("leaked", "test"): 2, ("duplicates", "train"): 6, ("conflicts", "train"): 2}
    tagged = pl.DataFrame({"t": ["a b c d", "e f g h", "a b c d"], "tags": [["x"], ["y"], ["x", "y"]]})
    assert {one["kind"] for one in sc.audit(tagged, label="tags", progress=False).findings} == {
        "duplicates",
        "conflicts",
    }


def test_pairs_of_which_one_is_a_part_of_the_other_are_counted() -> None:
    rng, words = np.random.default_rng(0), [f"w{word}" for word in range(400)]
    whole = [[words[word] for word in rng.integers(0, 400, 12)] for _ in range(120)]
    cut = [text[:9] for text in whole[:20]]
    other = [[*text[:5], "else", *text[6:]] for text in whole[20:30]]
    bodies = [" ".join(text) for text in [*whole, *cut, *other]]
    bodies[3] = bodies[3].upper().replace(" ", ", ")
    audit = sc.audit(pl.DataFrame({"body": bodies}), text="body", progress=False)
    [near] = [one for one in audit.findings if one["kind"] == "near duplicates"]
    assert near["count"] == 60
    assert near["text"].endswith("; in 40 pairs of 60 one text is a part of the other, word for word")


def test_an_audit_decodes_each_picture_once_when_it_has_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from secateur.trainers.modalities import decoding

    rng, decoded = np.random.default_rng(0), list[Any]()
    for row, one in enumerate(rng.integers(0, 255, (60, 9, 9, 3), np.uint8)):
        folder = tmp_path / "ab"[row % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(one).save(folder / f"{row}.png")
    plain = decoding.decode_image
    monkeypatch.setattr(decoding, "decode_image", lambda cell: decoded.append(cell) or plain(cell))
    audit = sc.audit(str(tmp_path), progress=False)
    assert audit.summary["rows"] == {"train": 60}
    assert len(decoded) == 60


def test_folders_of_pictures_with_classes_and_without(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (9, 9, 3), np.uint8)) for _ in range(8)]
    for split, some in (("train", range(6)), ("test", (5, 6))):
        for row in some:
            folder = tmp_path / split / "ab"[row % 2]
            folder.mkdir(parents=True, exist_ok=True)
            pictures[row].save(folder / f"{row}.png")
    (tmp_path / "eval").mkdir()
    for row in (1, 7):
        pictures[row].save(tmp_path / "eval" / f"{row}.bmp")
    (tmp_path / "eval" / "2.png").write_bytes(b"no picture")
    code, answer, _ = shell(
        str(tmp_path / "train"), "--test", str(tmp_path / "test"), "--against", str(tmp_path / "eval"), "--max-leaks=2"
    )
    assert code == 0
    leaks = {one["split"]: one["paths"] for one in answer["findings"] if one["kind"] == "leaked"}
    assert [path.rpartition("/")[2] for paths in leaks.values() for path in paths] == ["5.png", "1.bmp"]
    assert rows_in(answer, "unreadable", str(tmp_path / "eval")) == [1]
    assert {path for one in answer["findings"] for path in one["paths"]} == {"b/5.png", "1.bmp", "2.png"}


def test_rows_of_a_table_that_are_nearly_equal() -> None:
    rng = np.random.default_rng(0)
    names = np.array(["a", "b", "c"])
    table = pl.DataFrame({f"x{place}": rng.normal(size=600) for place in range(6)}).with_columns(
        kind=pl.Series(rng.choice(names, 600)), y=pl.Series(rng.normal(size=600))
    )
    moved = table[:20].with_columns(pl.col(pl.Float64) + 1e-3)
    found = sc.audit(pl.concat([table, moved]), label="y", test=moved[5:9], progress=False)
    told = {(one["kind"], one["split"]): one for one in found.findings}
    assert told["near duplicates", "train"]["count"] == 40
    assert told["leaked", "test"]["count"] == 4
    assert found.keep("deduplicated").sum() == 600
