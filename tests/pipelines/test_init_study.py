"""`secateur init`: guesses for small data sets of each kind and for the real ones, and errors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from secateur.pipelines.commands.main import app
from secateur.pipelines.data.profile import find_data
from secateur.pipelines.data.sources import load
from secateur.pipelines.studies.draft import Wish, draft_columns, free_name
from secateur.pipelines.studies.files import load_study
from secateur.pipelines.studies.rejections import plain_name
from secateur.pipelines.studies.samples import Study

Init = Callable[..., tuple[Study, dict[str, Any]]]


@pytest.fixture
def init(tmp_path: Path) -> Init:
    """Runs `secateur init` on data; gives the written study, as loaded, and the JSON answer."""

    def run(data: Path | str, *words: str) -> tuple[Study, dict[str, Any]]:
        path = tmp_path / "out" / "mine.yaml"
        done = CliRunner().invoke(app, ["init", str(data), "-o", str(path), "--json", *words])
        assert done.exit_code == 0, done.exception
        return load_study(path), json.loads(done.stdout)

    return run


def refused(data: Path | str, *words: str) -> str:
    """The error of `secateur init` for data that it cannot use."""
    done: Result = CliRunner().invoke(app, ["init", str(data), "-o", "never.yaml", *words])
    assert isinstance(done.exception, ValueError), done.output
    assert not Path("never.yaml").exists()
    return str(done.exception)


def people(count: int, seed: int) -> datasets.Dataset:
    """A table as in real life: an id, numbers, categories, missing values, a constant, codes, words as labels."""
    rng = np.random.default_rng(seed)
    jobs = np.where(rng.random(count) < 0.1, "?", rng.choice(["baker", "miller", "smith"], count))
    return datasets.Dataset.from_dict(
        {
            "person_id": [f"p{seed}-{row}" for row in range(count)],
            "row": np.arange(count),
            "age": rng.integers(18, 90, count),
            "income": rng.normal(size=count).round(3),
            "job": jobs.tolist(),
            "zip_code": rng.integers(10000, 10040, count),
            "country": ["there"] * count,
            "outcome": rng.choice(["stays", "leaves"], count).tolist(),
        }
    )


def sentences(count: int, seed: int) -> datasets.Dataset:
    """Short texts with three intents, as a ClassLabel."""
    rng = np.random.default_rng(seed)
    words = np.array(["please", "card", "money", "lost", "where", "my", "is", "the", "account", "pin", "open"])
    names = datasets.ClassLabel(names=["ask", "lose", "pay"])
    features = datasets.Features(
        {"id": datasets.Value("int64"), "utterance": datasets.Value("string"), "intent": names}
    )
    texts = [" ".join(rng.choice(words, 7)) for _ in range(count)]
    data = {"id": np.arange(count), "utterance": texts, "intent": np.arange(count) % 3}
    return datasets.Dataset.from_dict(data, features=features)


def pictures(count: int, side: int) -> datasets.Dataset:
    """Grey pictures of two classes."""
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (side, side), np.uint8)) for _ in range(count)]
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    return datasets.Dataset.from_dict({"img": images, "label": np.arange(count) % 2}, features=features)


def values(answer: dict[str, Any]) -> dict[str, str]:
    """The guesses by subject; several about one subject are joined."""
    found: dict[str, str] = {}
    for guess in answer["guesses"]:
        found[guess["what"]] = f"{found[guess['what']]}; {guess['value']}" if guess["what"] in found else guess["value"]
    return found


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_table(ending: str, init: Init, tmp_path: Path) -> None:
    data = tmp_path / "people"
    data.mkdir()
    for name, seed, count in (("train", 0, 200), ("test", 1, 60)):
        writers = {"csv": "to_csv", "jsonl": "to_json", "parquet": "to_parquet"}
        getattr(people(count, seed), writers[ending])(str(data / f"{name}.{ending}"))
    study, answer = init(data)
    assert study.columns.features == ["age", "income", "job", "zip_code"]
    assert study.columns.label == "outcome"
    assert study.encoding == {"categorical": ["zip_code"], "missing": ["?"]}
    assert study.source.label_names is None  # words are their own names
    assert study.proxy.model == study.training.model == "tabular_mlp"
    assert values(answer)["left out"] == "person_id, row; country"
    loaded = load(study.source, study.columns, tmp_path / "out", tmp_path / "cache")
    assert (len(loaded.train), len(loaded.test)) == (200, 60)
    words = people(200, 0)["outcome"]
    assert [loaded.label_names[number] for number in loaded.targets] == list(words)
    text = (tmp_path / "out" / "mine.yaml").read_text()
    assert text.count("#") >= 6
    assert "../people/train" in text


def test_marks_of_one_column_may_be_words_of_another(init: Init, tmp_path: Path) -> None:
    rows = [f"{['DE', 'NA', 'FR'][i % 3]},{'NA' if i % 9 == 0 else i / 4},{'ab'[i % 2]}\n" for i in range(300)]
    (tmp_path / "a.csv").write_text("country,income,label\n" + "".join(rows))
    study, answer = init(tmp_path / "a.csv")
    assert study.encoding == {"missing": {"country": ["NA"], "income": ["NA"]}}
    [guess] = [guess for guess in answer["guesses"] if guess["what"] == "missing values"]
    assert guess["why"] == "marks that usually stand for nothing, in country, income"
    # Without the mark of `country`, "NA" is a word there, but stays a missing value of `income`.
    columns = study.columns.model_copy(update={"missing": {"income": ["NA"]}})
    rows = load(study.source, columns, tmp_path / "out", tmp_path / "cache").train
    assert "NA" in set(rows["country"])
    assert rows.features["income"].dtype == "float64"


def test_texts_of_one_file_are_split(init: Init, tmp_path: Path) -> None:
    sentences(90, 0).to_parquet(tmp_path / "tickets.parquet")
    study, answer = init(tmp_path / "tickets.parquet")
    assert (study.columns.text, study.columns.label) == ("utterance", "intent")
    assert study.source.test_fraction == 0.2  # type: ignore[union-attr]
    assert study.resolved_encoding.kind == "tfidf"  # type: ignore[union-attr]
    assert values(answer)["left out"] == "id"
    assert study.name == "mine"


def test_a_folder_of_shards_and_files_left_aside(init: Init, tmp_path: Path) -> None:
    data = tmp_path / "shards"
    data.mkdir()
    for number in range(3):
        sentences(30, number).to_parquet(data / f"train-{number:05d}-of-00003.parquet")
    for name in ("test", "validation"):
        sentences(30, 9).to_parquet(data / f"{name}-00000-of-00001.parquet")
    study, answer = init(data)
    assert len(load(study.source, study.columns, tmp_path / "out", tmp_path / "cache").train) == 90
    assert Path(study.source.test[0]).name == "test-00000-of-00001.parquet"  # type: ignore[union-attr, index]
    assert answer["left_aside"] == ["validation-00000-of-00001.parquet"]


def test_pictures_by_class_and_in_parquet(init: Init, tmp_path: Path) -> None:
    for split, name in (("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "dog")):
        (folder := tmp_path / "pets" / split / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (100, 80), (number * 20, 0, 0)).save(folder / f"{number}.png")
    study, _ = init(tmp_path / "pets")
    assert (study.source.kind, study.columns.image, study.proxy.model) == ("imagefolder", "image", "cnn")
    assert study.encoding == {"size": (64, 64)} or study.encoding == {"size": [64, 64]}
    pictures(40, 8).to_parquet(tmp_path / "small.parquet")
    study, answer = init(tmp_path / "small.parquet", "--overwrite")
    assert (study.columns.image, study.proxy.model) == ("img", "mlp")
    file = answer["file"]
    again, answer = init(tmp_path / "small.parquet", "--overwrite", "--seeds", "1")
    assert (answer["file"], again.name, again.seeds) == (file, study.name, 1)
    assert "8 x 8" in next(guess["why"] for guess in answer["guesses"] if guess["what"] == "model")


def test_saved_by_datasets_and_digits(init: Init, tmp_path: Path) -> None:
    both = datasets.DatasetDict({"train": sentences(60, 0), "test": sentences(30, 1), "extra": sentences(5, 2)})
    both.save_to_disk(str(tmp_path / "saved"))
    study, answer = init(tmp_path / "saved")
    assert (study.source.kind, study.columns.text) == ("disk", "utterance")
    assert answer["left_aside"] == ["extra"]
    sentences(60, 0).save_to_disk(str(tmp_path / "one"))
    study, _ = init(tmp_path / "one", "--overwrite")
    assert study.source.test_fraction == 0.2  # type: ignore[union-attr]
    study, _ = init("digits", "--overwrite", "--name", "mine")
    assert (study.source.kind, study.proxy.model) == ("digits", "mlp")
    assert (study.training.epochs, study.lengths) == (14, ("epochs", "steps"))


def test_what_is_said_is_not_guessed(init: Init, tmp_path: Path) -> None:
    people(150, 0).to_csv(tmp_path / "all.csv")
    words = "--label job --features age --features income --keep 0.4 --keep 30 --epochs 2 --batch-size 16 --seeds 2"
    study, answer = init(tmp_path / "all.csv", *words.split(), "--test-fraction", "0.3", "--model", "mlp")
    assert (study.columns.label, study.columns.features) == ("job", ["age", "income"])
    assert (study.keep, study.proxy.epochs, study.proxy.batch_size, study.seeds) == ([0.4, 30], 2, 16, 2)
    assert (study.proxy.model, study.source.test_fraction) == ("mlp", 0.3)  # type: ignore[union-attr]
    assert sum(guess["why"] == "you said so" for guess in answer["guesses"]) == 5


def test_an_existing_file_and_a_taken_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_STUDIES", str(tmp_path))
    run = CliRunner().invoke
    done = run(app, ["init", "digits"], env={"COLUMNS": "80", "NO_COLOR": "1"})
    assert done.exit_code == 0, done.exception
    assert load_study(tmp_path / "digits_2.yaml").name == "digits_2"
    assert "secateur run digits_2" in done.stdout
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 80
    target = str(tmp_path / "digits_2.yaml")
    assert isinstance(run(app, ["init", "digits", "-o", target]).exception, FileExistsError)
    assert run(app, ["init", "digits", "-o", target, "--overwrite", "--seeds", "2"]).exit_code == 0
    assert load_study(tmp_path / "digits_2.yaml").seeds == 2


def test_names() -> None:
    assert free_name("My Data-Set 2024", []) == "my_data_set_2024"
    assert free_name("2024", []) == "study_2024"
    assert free_name("digits", ["digits", "digits_2"]) == "digits_3"
    assert free_name("Straßenschilder Köln", []) == "strassenschilder_koln"
    assert free_name("Ærøskøbing, Łódź & Čáslav", []) == "aeroskobing_lodz_caslav"
    assert free_name("Ko\u0308ln", []) == "koln"  # as macOS spells it in names of files
    assert free_name("данные", []) == "study"
    assert free_name("データ 2024", ["study_2024"]) == "study_2024_2"
    assert free_name("", ["study"]) == "study_2"
    assert plain_name(free_name("long " * 40, [])) == free_name("long " * 40, [])


def test_a_study_is_named_after_a_file_with_accents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_STUDIES", str(tmp_path))
    path = tmp_path / "Straßenschilder Köln.csv"
    path.write_text("size,label\n" + "".join(f"{row / 7:.3f},{'ab'[row % 2]}\n" for row in range(40)))
    told = json.loads(CliRunner().invoke(app, ["init", str(path), "--json"], catch_exceptions=False).stdout)
    assert (told["study"], told["file"]) == ("strassenschilder_koln", str(tmp_path / "strassenschilder_koln.yaml"))
    told = json.loads(CliRunner().invoke(app, ["init", str(path), "--json"], catch_exceptions=False).stdout)
    [why] = [guess["why"] for guess in told["guesses"] if guess["what"] == "name"]
    assert (told["study"], why) == ("strassenschilder_koln_2", "there is a study strassenschilder_koln already")


def houses(count: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"size": rng.normal(size=count), "rooms": rng.integers(1, 9, count), "target": rng.normal(size=count)}


def test_a_real_valued_target_is_regression(init: Init, tmp_path: Path) -> None:
    datasets.Dataset.from_dict(houses(90)).to_csv(tmp_path / "houses.csv")
    study, answer = init(tmp_path / "houses.csv")
    assert (study.task.kind, study.columns.label, study.columns.target) == ("regression", "target", "numbers")
    why = {guess["what"]: guess["why"] for guess in answer["guesses"]}
    assert why["task"].startswith("real numbers from -")
    assert set(study.scores) == {"loss", "el2n", "dynamic_uncertainty"}
    assert (
        "a class is a word, a whole number or a boolean; name another column (--label), or say --task regression"
        in refused(tmp_path / "houses.csv", "--label", "target", "--task", "classification")
    )
    study, _ = init(tmp_path / "houses.csv", "--label", "size", "--label", "target", "--overwrite")
    assert (study.task.kind, study.columns.label, study.columns.features) == (
        "regression", ["size", "target"], ["rooms"]
    )  # fmt: skip


def test_many_whole_numbers_with_gaps_are_regression_and_numbered_classes_are_not(init: Init, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = {"x": rng.normal(size=300), "hours": rng.choice(np.arange(1, 99), 300), "kind": np.arange(300) % 30}
    datasets.Dataset.from_dict(table).to_parquet(tmp_path / "work.parquet")
    study, _ = init(tmp_path / "work.parquet", "--label", "hours")
    assert study.task.kind == "regression"
    study, _ = init(tmp_path / "work.parquet", "--label", "kind", "--overwrite")
    assert study.task.kind == "classification"
    study, _ = init(tmp_path / "work.parquet", "--label", "kind", "--task", "regression", "--overwrite")
    assert study.task.kind == "regression"


def test_lists_and_columns_of_0_and_1_are_several_labels(init: Init, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tags = [rng.choice(["a", "b", "c"], rng.integers(0, 3), replace=False).tolist() for _ in range(60)]
    rows = {"text": ["some words in a row"] * 60, "tags": tags, "n": rng.normal(size=60)}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "notes.parquet")
    study, answer = init(tmp_path / "notes.parquet")
    assert (study.task.kind, study.columns.label) == ("multi_label", "tags")
    assert study.source.label_names is None
    assert "lists of 3 distinct labels" in [guess["why"] for guess in answer["guesses"]]
    flags = {"red": rng.integers(0, 2, 60), "round": rng.integers(0, 2, 60), "x": rng.normal(size=60)}
    datasets.Dataset.from_dict(flags).to_csv(tmp_path / "things.csv")
    study, answer = init(tmp_path / "things.csv", "--label", "red", "--label", "round", "--overwrite")
    assert (study.task.kind, study.columns.label) == ("multi_label", ["red", "round"])
    assert "columns of 0 and 1, of which a row has 0 to 2" in [guess["why"] for guess in answer["guesses"]]
    flags["round"] = 1 - flags["red"]
    datasets.Dataset.from_dict(flags).to_csv(tmp_path / "things.csv")
    assert "one class per row" in refused(tmp_path / "things.csv", "--label", "red", "--label", "round")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["a"] * 40, "is 'a' in every row: a study needs two classes"),
        ([None] * 40, "is empty"),
        ([-1, 0, 1, 2] * 10, "-1 usually marks an unlabelled sample"),
        ([f"name {row}" for row in range(1200)], "has 1200 distinct texts: that is no set of classes"),
    ],
)
def test_labels_that_no_study_can_have(labels: list[Any], said: str, tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"x": np.arange(len(labels)) / 7, "label": labels})
    rows.to_parquet(tmp_path / "rows.parquet")
    assert said in refused(tmp_path / "rows.parquet", "--label", "label")


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    sentences(30, 0).to_parquet(tmp_path / "tickets.parquet")
    assert f"did you mean '{tmp_path / 'tickets.parquet'}'" in refused(tmp_path / "ticket.parquet")
    assert "did you mean 'intent'" in refused(tmp_path / "tickets.parquet", "--label", "intents")
    (tmp_path / "empty").mkdir()
    assert "no data is seen here" in refused(tmp_path / "empty")
    (tmp_path / "notes.xlsx").write_bytes(b"PK")
    assert "convert it to one of .csv" in refused(tmp_path / "notes.xlsx")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    assert "broken.parquet" in refused(tmp_path / "broken.parquet")
    done = CliRunner().invoke(app, ["init", "digits", "--keep", "some"])
    assert done.exit_code == 2
    assert "neither a share" in done.output


@pytest.mark.parametrize(
    ("folder", "kind", "inputs", "classes"),
    [
        ("banking77", "text", ("text",), 77),
        ("clinc150", "text", ("text",), 150),
        ("adult", "features", None, 2),
        ("fashion_mnist", "image", ("image",), 10),
    ],
)
def test_the_real_data_sets_as_the_shipped_studies_have_them(
    folder: str, kind: str, inputs: tuple[str, ...] | None, classes: int, real_data: Path
) -> None:
    place = find_data(str(real_data / folder))
    draft = draft_columns(place, Wish())
    shipped = load_study(Path(__file__).parents[2] / "pipelines" / "studies" / "shipped" / f"{folder}.yaml")
    assert next(iter(draft.columns)) == kind
    assert draft.columns["label"] == shipped.columns.label
    assert tuple(draft.columns[kind] if kind == "features" else [draft.columns[kind]]) == (
        inputs or shipped.columns.inputs
    )
    assert len(draft.goal.classes) == classes
    assert Path(place.test or "").name == "test.parquet"
    if folder == "adult":
        assert draft.encoding == {"missing": ["?"]}
    assert (draft.goal.columns, draft.goal.task) == (("label",), "classification")


def test_the_last_column_is_the_label_where_no_name_says_it(init: Init, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = {"grade": rng.integers(0, 3, 90), "size": rng.normal(size=90), "price": rng.normal(size=90)}
    datasets.Dataset.from_dict(table).to_csv(tmp_path / "houses.csv")
    study, answer = init(tmp_path / "houses.csv")
    assert (study.task.kind, study.columns.label) == ("regression", "price")
    [label] = [guess for guess in answer["guesses"] if guess["what"] == "label"]
    assert "for another say --label COLUMN" in label["why"]
    datasets.Dataset.from_dict({"y": table["grade"], **table}).to_csv(tmp_path / "named.csv")
    study, _ = init(tmp_path / "named.csv", "--overwrite")
    assert (study.task.kind, study.columns.label) == ("classification", "y")
