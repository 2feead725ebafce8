"""Near copies by embeddings, copies between parts beside training, and the target: from files to cleaned data."""

import html
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import secateur as sc
from secateur.pipelines.commands.main import app
from secateur.trainers.passes import embeddings
from secateur.trainers.passes.embeddings import EmbeddingSettings
from tests.support import tiny_encoder
from tests.support.planted import WORDS, nearly, sentence

SIZES = {"train": 200, "test": 60, "target": 40, "bench": 50}
WIDTH = 16


@dataclass(frozen=True)
class Files:
    """Texts of four parts and a vector for each. Row 0 of the test is training row 0, row 1 is near row 1 in words and
    vector, row 2 near row 2 by its vector alone; training row 100 is near row 5 by its vector alone, and row 101 near
    row 6 by both. Rows 0, 1 and 2 of the benchmark relate to test rows 10, 11 and 12 as those of the test to training.
    Row 0 of the target is test row 20, and row 1 near training row 30.
    """

    folder: Path
    texts: dict[str, list[str]]
    vectors: dict[str, np.ndarray]

    def path(self, part: str, ending: str = "csv") -> str:
        return str(self.folder / f"{part}.{ending}")

    @property
    def words(self) -> list[str]:
        """The command's words without vectors."""
        beside = [("--test", "test"), ("--target", "target"), ("--against", "bench")]
        return [
            self.path("train"),
            *(word for one, part in beside for word in (one, self.path(part))),
            "--text",
            "body",
        ]

    @property
    def embeddings(self) -> list[str]:
        """The option of the vectors."""
        names = {"test": "test=", "target": "target=", "bench": f"{self.path('bench')}=", "train": ""}
        return [word for part, name in names.items() for word in ("--embeddings", f"{name}{self.path(part, 'npy')}")]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    rng, normal = random.Random(1), np.random.default_rng(0).normal
    texts = {part: [sentence(rng) for _ in range(size)] for part, size in SIZES.items()}
    vectors = {part: normal(size=(size, WIDTH)).astype(np.float32) for part, size in SIZES.items()}

    def copy(part: str, row: int, of: str, source: int, *, text: str = "", near: bool = True) -> None:
        texts[part][row] = text or texts[part][row]
        vectors[part][row] = vectors[of][source] + (0.02 * normal(size=WIDTH) if near else 0)

    for part, of, start in (("test", "train", 0), ("bench", "test", 10)):
        copy(part, 0, of, start, text=texts[of][start], near=False)
        copy(part, 1, of, start + 1, text=nearly(texts[of][start + 1], rng))
        copy(part, 2, of, start + 2)
    copy("train", 100, "train", 5)
    copy("train", 101, "train", 6, text=nearly(texts["train"][6], rng))
    copy("target", 0, "test", 20, text=texts["test"][20], near=False)
    copy("target", 1, "train", 30, text=nearly(texts["train"][30], rng))
    made = Files(tmp_path_factory.mktemp("vectors"), texts, vectors)
    for part in SIZES:
        pl.DataFrame({"body": texts[part]}).write_csv(made.path(part))
        np.save(made.path(part, "npy"), vectors[part])
    return made


def shell(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output and error."""
    done = CliRunner().invoke(app, ["audit", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def found_in(answer: dict[str, Any]) -> dict[tuple[str, str], list[int]]:
    """Rows of each finding about copies, ascending, by its kind and part."""
    return {(one["kind"], one["split"]): sorted(row for _, row in one["rows"]) for one in answer["findings"]}


def test_from_a_file_and_vectors_of_the_user_to_the_rows_that_are_trained_on(files: Files, tmp_path: Path) -> None:
    out = tmp_path / "audit"
    code, printed, _ = shell(*files.words, *files.embeddings, "--write", str(out), "--json")
    assert code == 0
    answer, bench = json.loads(printed), files.path("bench")
    assert found_in(answer) == {
        ("leaked", "test"): [0], ("near leaked", "test"): [1], ("near leaked by embeddings", "test"): [2],
        ("near leaked", "target"): [1], ("near duplicates", "train"): [6, 101],
        ("near duplicates by embeddings", "train"): [5, 100], ("shared", "target"): [0], ("shared", bench): [0],
        ("near shared", bench): [1], ("near shared by embeddings", bench): [2],
    }  # fmt: skip
    assert [(one["measure"], one["leaks"], one["duplicates"]) for one in answer["measures"]] == [
        ("equal input", 1, 0), ("word n-grams", 2, 1), ("embeddings", 1, 1)
    ]  # fmt: skip
    assert (answer["leaks"], answer["duplicates"]) == (4, 2)
    lines = pl.read_csv(out / "findings.csv")
    by = {"near leaked": "word n-grams", "near leaked by embeddings": "embeddings", "near shared": "word n-grams"}
    near = lines.filter(pl.col("finding").is_in(list(by)))
    assert near["measure"].to_list() == [by[kind] for kind in near["finding"]]
    vectors = {name: values / np.linalg.norm(values, axis=1, keepdims=True) for name, values in files.vectors.items()}
    [alike] = lines.filter(pl.col("finding") == "near leaked by embeddings")["similarity"]
    assert alike == pytest.approx(vectors["test"][2] @ vectors["train"][2], abs=1e-5)
    page = html.unescape((out / "audit.html").read_text())
    assert "Rows nearly the same as a row of training, by embeddings alone (test)" in page
    assert "cosine of vectors of yours" in page
    for name, gone in (("deduplicated", (100, 101)), ("without_leaks", (0, 1, 2, 30))):
        words = ["apply", str(out / "manifests" / name), files.path("train"), "-o", str(tmp_path / f"{name}.csv")]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        expected = [text for row, text in enumerate(files.texts["train"]) if row not in gone]
        assert pl.read_csv(tmp_path / f"{name}.csv")["body"].to_list() == expected


def test_a_target_is_compared_with_training_and_test_and_the_test_with_a_benchmark(
    files: Files, tmp_path: Path
) -> None:
    """By words, in shell, page, JSON and CSV; no limit counts rows that parts beside training share."""
    limits = ["--max-leaks", "3", "--max-duplicates", "1"]
    code, printed, _ = shell(*files.words, *limits, "--write", str(tmp_path / "audit"))
    assert code == 0
    answer, bench = json.loads((tmp_path / "audit/audit.json").read_text()), files.path("bench")
    assert answer["shared"] == [
        {"parts": ["test", "target"], "rows": {"equal input": 1, "word n-grams": 0}},
        {"parts": ["test", bench], "rows": {"equal input": 1, "word n-grams": 1}},
    ]
    assert answer["leaks_by_part"] == {"test": 2, "target": 1, bench: 0}
    shown = "".join(printed.split()).replace(" ", "")
    assert "1targetrowof40alsointest:thesetestrowscannotjudgerowschosenbytheirlikenesstothetarget" in shown
    page = html.unescape((tmp_path / "audit/audit.html").read_text())
    assert f"Rows that two parts beside training have ({bench})" in page
    assert f"1 {bench} row of 50 nearly the same as a row of test" in page
    lines = pl.read_csv(tmp_path / "audit/findings.csv").filter(pl.col("finding").is_in(["shared", "near shared"]))
    places = lines.select("finding", "split", "row", "other_split", "other_row").rows()
    assert places == [
        ("shared", "target", 0, "test", 20), ("shared", bench, 0, "test", 10), ("near shared", bench, 1, "test", 11)
    ]  # fmt: skip
    assert lines["similarity"][:2].to_list() == [1, 1]
    assert lines["to_mark"].to_list() == [False, False, True]


def test_benchmarks_and_tables_share_rows_too() -> None:
    random = np.random.default_rng(0)
    table = {name: pl.DataFrame(random.normal(size=(80, 5)), list("abcde")) for name in ("train", "one", "two")}
    two = pl.concat([table["one"][:2], table["one"][2:3] + 1e-3, table["two"]])
    audit = sc.audit(table["train"], against=[table["one"], two], progress=False)
    assert found_in(audit.summary) == {("shared", "benchmark 2"): [0, 1], ("near shared", "benchmark 2"): [2]}
    assert audit.pairs["other_split"].to_list() == ["benchmark 1"] * 3
    exact = sc.audit(table["train"], against=[table["one"], two], near=False, progress=False)
    assert found_in(exact.summary) == {("shared", "benchmark 2"): [0, 1]}


@pytest.mark.parametrize("kind", ["arrays", "column"])
def test_vectors_in_hand_and_in_a_column(files: Files, kind: str) -> None:
    parts = {
        name: pl.DataFrame({"body": files.texts[name], "vector": files.vectors[name].tolist()})
        for name in ("train", "test")
    }
    given = {name: files.vectors[name] for name in parts} if kind == "arrays" else {"column": "vector"}
    audit = sc.audit(parts["train"], test=parts["test"], text="body", embeddings=given, progress=False)
    assert found_in(audit.summary)["near leaked by embeddings", "test"] == [2]
    assert np.flatnonzero(~audit.keep("deduplicated")).tolist() == [100, 101]
    alone = sc.audit(parts["train"], test=parts["test"], text="body", embeddings=files.vectors["train"], progress=False)
    assert ("near leaked by embeddings", "test") not in found_in(alone.summary)
    assert np.flatnonzero(~alone.keep("deduplicated")).tolist() == [100, 101]


WRONG = {
    "a file that is not there": (["nowhere.npy"], r"there is no file nowhere\.npy"),
    "no array": (["text.npy"], r"text\.npy is no \.npy file of numbers: save it by numpy\.save\(file, array\)"),
    "an empty file": (["empty.npy"], r"empty\.npy is no \.npy file of numbers"),
    "a cut file": (["cut.npy"], r"cut\.npy is no \.npy file of numbers"),
    "a pickled array": (["pickled.npy"], r"pickled\.npy is no \.npy file of numbers"),
    "an archive": (["archive.npz"], r"archive\.npz is no \.npy file of numbers"),
    "an archive by another name": (["archive.npy"], r"archive\.npy is no \.npy file of numbers"),
    "a table": (["train.csv"], r"train\.csv is no \.npy file of numbers"),
    "no name": ([""], r"the name is empty"),
    "no vectors of training": (["test=test.npy"], r"vectors of test are compared with those of train, which has none"),
    "equal vectors": (["equal.npy"], r"all vectors of equal\.npy are equal, and its rows are not"),
    "equal vectors of the test": (["train.npy", "test=alike.npy"], r"all vectors of alike\.npy are equal"),
    "nearly equal vectors": (["nearly.npy"], r"nearly all vectors of nearly\.npy are equal"),
    "too large": (
        ["large.npy"],
        r"vectors of large\.npy are too large, beyond 1e\+15, for 1 of 200 rows \(row 4 of .*train\.csv\)",
    ),
    "infinite": (["infinite.npy"], r"NaN or infinite for 1 of 200 rows \(row 5 of .*train\.csv\)"),
    "a word that is no column": (["zebra"], r"no column 'zebra'; there are: body\. Name a model .* as AUTHOR/zebra"),
    "too few": (["test.npy"], r"test\.npy has 60 rows, and train has 200"),
    "another width": (["train.npy", "test=wide.npy"], r"wide\.npy has 17 numbers a vector, and .*train\.npy has 16"),
    "one number": (["flat.npy"], r"flat\.npy holds float32 of shape \[200\], and numbers \[rows, dimensions\]"),
    "a part that there is not": (["train.npy", "tset=test.npy"], r"no part 'tset'; did you mean 'test'\?"),
    "two of one part": (["train.npy", "train=train.npy"], r"train\.npy is of train, too"),
    "NaN": (["train.npy", "test=nan.npy"], r"NaN or infinite for 1 of 260 rows \(row 7 of .*test\.csv\)"),
    "zeros": (["zeros.npy"], r"all zeros.* for 2 of 200 rows \(row 3 of .*train\.csv, row 9 of .*train\.csv\)"),
    "a misspelt column": (["bodyy"], r"no column 'bodyy'; did you mean 'body'\?"),
    "a column of texts": (["body"], r"column 'body' of train\.csv holds (large_)?string, and lists of numbers"),
    "a model beside a file": (["train.npy", "some/model"], r"name one column or model alone"),
}


@pytest.fixture(scope="module")
def wrong(files: Files) -> Files:
    """Files beside the others, each with a fault."""
    bad = {name: files.vectors[name].copy() for name in ("train", "test")}
    bad["train"][[3, 9]], bad["test"][7, 2] = 0, np.nan
    np.save(files.path("wide", "npy"), np.ones((60, 17), np.float32))
    np.save(files.path("flat", "npy"), np.ones(200, np.float32))
    np.save(files.path("nan", "npy"), bad["test"])
    np.save(files.path("zeros", "npy"), bad["train"])
    Path(files.path("text", "npy")).write_text("no array")
    Path(files.path("empty", "npy")).write_bytes(b"")
    Path(files.path("cut", "npy")).write_bytes(Path(files.path("train", "npy")).read_bytes()[:1000])
    np.save(files.path("pickled", "npy"), np.array([["a", 1]], dtype=object), allow_pickle=True)
    np.savez(files.path("archive", "npz"), one=files.vectors["train"])
    Path(files.path("archive", "npz")).rename(files.path("archive", "npy"))
    np.save(files.path("equal", "npy"), np.ones((200, WIDTH)))
    np.save(files.path("nearly", "npy"), np.where(np.arange(200)[:, None] < 182, 1, files.vectors["train"]))
    np.save(files.path("alike", "npy"), np.ones((60, WIDTH), np.float32))
    for name, row, value in (("large", 4, -1e300), ("infinite", 5, np.inf)):
        some = files.vectors["train"].astype(np.float64)
        some[row, 1] = value
        np.save(files.path(name, "npy"), some)
    return files


def test_a_column_of_numbers_beyond_float32_is_refused_by_row(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(60, 4))
    values[7, 2] = -1e200
    table = pl.DataFrame({"body": [f"text {row}" for row in range(60)], "vector": values.tolist()})
    table.write_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=r"column 'vector' of train\.parquet has a number in row 7 that is too large"):
        shell(str(tmp_path / "train.parquet"), "--text", "body", "--embeddings", "vector")


@pytest.mark.parametrize("case", WRONG)
def test_vectors_that_do_not_go_with_the_rows_are_refused_before_anything_is_compared(
    wrong: Files, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secateur.pipelines.audits.auditing.audited", None)
    monkeypatch.chdir(wrong.folder)
    given, message = WRONG[case]
    words = [word for one in given for word in ("--embeddings", one)]
    with pytest.raises(ValueError, match=message):
        shell(wrong.path("train"), "--test", wrong.path("test"), "--text", "body", *words)


def test_a_part_without_vectors_and_too_few_distinct_ones_are_noted(files: Files, tmp_path: Path) -> None:
    """In the shell, JSON and the page; with 10 distinct vectors only the other measures find copies."""
    few = tmp_path / "few.npy"
    np.save(few, files.vectors["train"][np.arange(200) % 10])
    asked = [files.path("train"), "--test", files.path("test"), "--text", "body", "--embeddings"]
    out = tmp_path / "audit"
    printed = shell(*asked, str(few), "--write", str(out))[1]
    answer = json.loads((out / "audit.json").read_text())
    assert answer["measures"][-1]["duplicates"] == 0
    assert "near duplicates by embeddings" not in {one["kind"] for one in answer["findings"]}
    lacking = "near copies by embeddings: test has no vectors, so other measures alone compare these rows"
    distinct = "no near copies, for 10 distinct vectors are too few to choose a threshold"
    page = html.unescape((out / "audit.html").read_text())
    for told in (" ".join(printed.split()), " ".join(answer["notes"]), page):
        assert lacking in told
        assert distinct in told
    both = json.loads(
        shell(*asked, files.path("train", "npy"), "--embeddings", f"test={files.path('test', 'npy')}", "--json")[1]
    )
    assert not [note for note in both["notes"] if "embeddings" in note]
    assert both["measures"][-1]["duplicates"] == 1


def test_vectors_go_with_near_copies_alone_and_are_not_written_over(files: Files, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leaves near copies out"):
        shell(files.path("train"), "--exact", "--embeddings", files.path("train", "npy"))
    data = tmp_path / "data.csv"
    pl.DataFrame({"body": files.texts["train"]}).write_csv(data)
    with pytest.raises(ValueError, match=r"train\.npy, an input of this audit, lies in"):
        shell(str(data), "--embeddings", files.path("train", "npy"), "--write", str(files.folder), "--overwrite")


def test_twenty_are_drawn_of_all_rows_of_a_finding_and_stand_in_the_table(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that lists five rows has the twenty beside them, and the draw is that of a table that lists all."""
    rng = random.Random(3)
    train = [{"body": text} for text in files.texts["train"]]
    test = [{"body": nearly(text, rng)} for text in files.texts["train"][:90]]
    whole = sc.audit(train, test=test, text="body", progress=False).lines.filter(pl.col("finding") == "near leaked")
    monkeypatch.setattr("secateur.pipelines.audits.listed.MOST", 5)
    few = sc.audit(train, test=test, text="body", progress=False).lines.filter(pl.col("finding") == "near leaked")
    drawn = whole.filter("to_mark")
    assert len(whole) > 80
    assert few.filter("to_mark").equals(drawn)
    assert len(drawn) == 20
    assert few["at"].to_list() == whole["at"].to_list()[:5] + [row for row in drawn["at"] if row not in whole["at"][:5]]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of an encoder of texts with random weights."""
    return tiny_encoder.saved(tmp_path_factory.mktemp("bert"), WORDS)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of texts in the calls of an encoder."""
    counts, reader = list[int](), embeddings.text_reader

    def counting(*settings: Any) -> Any:
        read = reader(*settings)
        return lambda texts: (counts.append(len(texts)), read(texts))[1]

    monkeypatch.setattr(embeddings, "text_reader", counting)
    return counts


def test_an_encoder_is_asked_once_for_every_row(files: Files, bert: str, asked: list[int]) -> None:
    """Each pair that embeddings alone find has the cosine of the encoder's own vectors of both."""
    words = [files.path("train"), "--test", files.path("test"), "--text", "body", "--embeddings", bert, "--json"]
    answer = json.loads(shell(*words)[1])
    assert sum(asked) == SIZES["train"] + SIZES["test"]
    audit = sc.audit(
        files.path("train"), test=files.path("test"), text="body", embeddings={"encoder": bert}, progress=False
    )
    measures = [one for one in audit.summary["measures"] if one["measure"] == "embeddings"]
    assert measures == [one for one in answer["measures"] if one["measure"] == "embeddings"]
    assert f"cosine of encoder {bert}" in measures[0]["reason"]
    found = audit.audit.copies.measures[-1]
    rows = np.flatnonzero(found.partner >= 0)[:20]
    settings = EmbeddingSettings(kind="encoder", encoder=bert)
    read = embeddings.text_reader(
        settings, embeddings.loaded_encoder(settings, torch.device("cpu")), torch.device("cpu")
    )
    texts = [*files.texts["train"], *files.texts["test"]]
    left, right = (read([texts[row] for row in some]) for some in (rows, found.partner[rows]))
    cosine = np.vecdot(left, right) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    assert len(rows) > 2
    np.testing.assert_allclose(found.similarity[rows], cosine, atol=1e-4)


def test_an_encoder_of_pictures_sees_them_in_their_own_sizes(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    random, folder = np.random.default_rng(0), tmp_path / "pictures"
    folder.mkdir()
    for row in range(60):
        size = (12 + row % 5, 16)
        made = Image.fromarray(random.integers(0, 255, (4, 4, 3), np.uint8)).resize(size)
        made.convert("L" if row % 7 == 0 else "RGB").save(folder / f"{row:02}.png")
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=8, patch_size=4
    )  # fmt: skip
    ViTModel(config).eval().save_pretrained(tmp_path / "vit")
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(tmp_path / "vit")
    audit = sc.audit(folder, embeddings=str(tmp_path / "vit"), progress=False)
    assert [one.measure for one in audit.audit.copies.measures] == ["equal input", "look of pictures", "embeddings"]
    assert audit.audit.rows.vectors.of_sound(audit.audit.rows)[0].shape == (60, 16)


def test_an_encoder_of_texts_is_refused_for_columns(bert: str) -> None:
    table = pl.DataFrame(np.random.default_rng(0).normal(size=(50, 3)), list("abc"))
    with pytest.raises(ValueError, match="reads texts or pictures, and the data are columns"):
        sc.audit(table, embeddings=bert, progress=False)
