"""Vectors, gradients and loss curves of completions in a study: killed, resumed, and equal to direct calls."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
import yaml

from secateur.pipelines.assets import gradients, trajectories
from secateur.pipelines.data.row_texts import RowTexts
from secateur.pipelines.data.scan import rows_in
from secateur.pipelines.definitions import build
from secateur.pipelines.runs.arrays import data_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyError, StudyFile, load_study
from secateur.scorers.checkpoints.checkpoint_loss import checkpoint_loss
from secateur.scorers.target.cosines import VectorCosines
from secateur.scorers.target.target_places import target_places
from secateur.trainers.loop.checkpoints import load_checkpoints
from secateur.trainers.passes import completions
from secateur.trainers.passes.completions import head_sketches, weighted_means
from secateur.trainers.passes.embeddings import EmbeddingSettings, embed
from secateur.trainers.passes.scoring import score_rows
from secateur.trainers.processes import device_of_choice

WORDS = ("red", "green", "blue", "stone", "river", "song", "moon")
SMALL = {"model": "language_model", "model_settings": {"layers": 1, "width": 16, "heads": 2}, "batch_size": 16}
STUDY: dict[str, Any] = {
    "name": "tuned",
    "source": {"kind": "jsonl", "train": "data.jsonl", "test_fraction": 0.2},
    "columns": {"prompt": ["instruction", "input"], "completion": "output", "label": "source"},
    "task": "sft",
    "target": {"file": "job.jsonl"},
    "proxy": SMALL | {"epochs": 3, "learning_rate": 0.01},
    "checkpoints": 3,
    "neighbours": {"count": 3, "metric": "cosine"},
    "scores": {"vog": None, "density": None, "dual": {"window": 2}, "forgetting": None, "correctness": None},
    "selections": {
        "s2l": {"clusters": 4},
        "nearest_to_target": None,
        "gradient_match": None,
        "semantic_deduplication": None,
    },
    "keep": [0.5],
    "training": SMALL | {"epochs": 1},
    "seeds": 1,
}


def rows(count: int, kinds: tuple[str, ...], seed: int) -> list[dict[str, str]]:
    """Instructions of some sources."""
    draw, found = np.random.default_rng(seed), []
    for row in range(count):
        kind = kinds[row % len(kinds)]
        words = [str(word) for word in draw.choice(WORDS, draw.integers(2, 9))]
        answer = sorted(words) if kind == "sort" else words
        asked = {"instruction": kind, "input": f"{' '.join(words)} {seed}{row}"}
        found.append(asked | {"output": " ".join(answer), "source": kind})
    return found


def as_lines(path: Path, given: list[dict[str, str]]) -> None:
    path.write_text("\n".join(map(json.dumps, given)))


class Interrupted(Exception):
    """Stands for a kill."""


def dying(work: Any, after: int) -> Any:
    """The same function, which dies at its next call but `after`."""
    calls = []

    def once_too_often(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) > after:
            raise Interrupted
        return work(*args, **kwargs)

    return once_too_often


PREPARED = ("source", "samples", "test_samples", "inputs", "test_inputs", "encoder")
MADE = (
    *("target", "proxy", "embeddings", "neighbour_indices", "neighbour_distances", "target_places"),
    *(f"scores/{name}" for name in ("vog", "density", "dual", "forgetting", "correctness")),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The assets of the study, which was killed in both passes and resumed."""
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        folder = tmp_path_factory.mktemp("sft")
        patch.setattr(gradients, "BLOCK", 32)
        patch.setattr(trajectories, "BLOCK", 32)
        as_lines(folder / "data.jsonl", rows(100, ("copy", "sort"), 0))
        as_lines(folder / "job.jsonl", rows(6, ("sort",), 1))
        path, home = folder / "study.yaml", folder / "assets" / "tuned"
        path.write_text(yaml.safe_dump(STUDY))
        job = build([StudyFile(path, load_study(path))], home.parent).resolve_implicit_global_asset_job_def()

        def make(*names: str) -> dict[str, Any]:
            keys = [dg.AssetKey(["tuned", *name.split("/")]) for name in names]
            done = job.execute_in_process(instance=instance, asset_selection=keys)
            found = [event.materialization for event in done.get_asset_materialization_events()]
            return {each.asset_key.path[1]: {k: v.value for k, v in each.metadata.items()} for each in found}

        make(*PREPARED, *MADE)
        # Blocks of about 80 rows are 3: the curves die in the second, the gradients in the second checkpoint's last.
        for asset, place, name, after in (
            ("loss_trajectories", trajectories, "score_rows", 4),
            ("gradient_places", completions, "head_sketches", 6),
        ):
            with pytest.MonkeyPatch.context() as kill:
                kill.setattr(place, name, dying(getattr(place, name), after))
                with pytest.raises(Interrupted):
                    make(asset)
        assert len(list((home / ".gradients").rglob("*.npy"))) == 1, "the first checkpoint's, whole"
        assert len(list((home / ".gradients" / "001").rglob("0*"))) == 2
        assert make("loss_trajectories")["loss_trajectories"]["blocks resumed"] == 1
        make("gradient_places")
        assert not (home / ".gradients").exists()
        return home


@pytest.fixture(scope="module")
def known(home: Path) -> dict[str, Any]:
    """Data, checkpoints, store and the rows of the target."""
    store = Store(home.parent)
    source, inputs, samples = (store.load(("tuned", name)) for name in ("source", "inputs", "samples"))
    data = data_of(inputs, samples, source)
    return {
        "data": data,
        "models": load_checkpoints(home / "proxy" / "seed-0"),
        "store": store,
        "target": gradients.target_data(home / "target", source),
    }


def test_loss_curves_are_losses_at_each_checkpoint(home: Path, known: dict[str, Any]) -> None:
    curves, data = known["store"].load(("tuned", "loss_trajectories")), known["data"]
    assert curves.shape == (len(data), 3)
    for place, model in enumerate(known["models"]):
        wanted = {"loss": (checkpoint_loss, {})}
        [loss] = score_rows([[model]], data, np.arange(len(data)), wanted, device=device_of_choice()).values()
        np.testing.assert_allclose(curves[:, place], loss, atol=1e-6)
    assert curves[:, 2].mean() < curves[:, 0].mean()
    cost = json.loads((home / "loss_trajectories_cost.json").read_text())
    assert cost["forward"] == 3 * len(data)


def test_both_orders_are_those_of_direct_calls(known: dict[str, Any]) -> None:
    data, target, store, models = (known[name] for name in ("data", "target", "store", "models"))
    device, sides = device_of_choice(), [(each, np.arange(len(each))) for each in (data, target)]
    vectors = [weighted_means(models[-1], each, some, device).numpy() for each, some in sides]
    np.testing.assert_allclose(store.load(("tuned", "embeddings")), vectors[0], atol=1e-6)
    np.testing.assert_array_equal(
        store.load(("tuned", "target_places")), target_places(VectorCosines(*vectors), depth=len(data) // 2)
    )
    total = np.zeros((6, len(data)))
    for model in models:
        pool, asked = (head_sketches(model, each, some, device).numpy() for each, some in sides)
        total += asked @ pool.T
    order, turn, lists = [], 0, [list(np.argsort(-cosines, kind="stable")) for cosines in total]
    while len(order) < len(data) // 2:
        taken = lists[turn % 6].pop(0)
        order += [] if taken in order else [taken]
        turn += 1
    places = store.load(("tuned", "gradient_places"))
    np.testing.assert_array_equal(np.argsort(places)[: len(order)], order)


def test_words_of_prompts_and_completions_and_conversations(home: Path, known: dict[str, Any]) -> None:
    train = rows_in(home / "rows" / "train")
    texts = RowTexts.of(train, load_study(home.parents[1] / "study.yaml").read_columns)
    assert list(texts) == [texts[row] for row in range(len(texts))]
    table = pl.DataFrame(train.dataset().to_dict())
    first = table.row(0, named=True)
    assert texts[0] == f"{first['instruction']}\n{first['input']}\n{first['output']}"
    turns = [{"role": "user", "content": "Name one."}, {"from": "gpt", "value": "Red."}]
    vectors = np.concatenate(list(embed(EmbeddingSettings(kind="sklearn", dimensions=4), known["data"], texts=texts)))
    assert vectors.shape == (len(texts), 4)
    assert vectors.any(axis=1).all()
    chats = RowTexts(train, ("output",), spoken=True)
    assert chats._joined([json.dumps(turns)]) == "Name one.\nRed."


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"checkpoints": 1}, "checkpoints: selections.s2l compares losses at the ends of the proxy's epochs"),
        ({"proxy": SMALL | {"epochs": 0}}, "proxy.epochs: 0"),
        ({"proxy": None, "checkpoints": 1}, "reads losses of a proxy over its training"),
        ({"proxy": SMALL | {"epochs": 3, "folds": 2}}, "losses of samples that one proxy"),
        ({"scores": {"aum": None}}, "each token of a completion has a rival of its own"),
        ({"scores": {"neighbour_agreement": None}}, "of another source is no worse"),
    ],
)
def test_what_cannot_be_is_refused_when_a_study_loads(changes: dict[str, Any], fault: str, tmp_path: Path) -> None:
    content = {name: value for name, value in (STUDY | changes).items() if value is not None}
    content |= {"selections": {"s2l": None}, "scores": changes.get("scores", {})}
    content.pop("target")
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(StudyError) as raised:
        load_study(tmp_path / "study.yaml")
    assert fault in str(raised.value)


def test_words_can_be_compared_and_counted_where_a_study_asks_for_it(tmp_path: Path) -> None:
    asked = {"target": {"file": "job.jsonl", "compare": "texts"}, "embeddings": {"kind": "sklearn"}}
    chosen = {"selections": {"nearest_to_target": None, "importance_resampling": None}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY | asked | chosen))
    study = load_study(tmp_path / "study.yaml")
    assert study.target_by_texts
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY | chosen))
    assert load_study(tmp_path / "study.yaml").of_embeddings == {"embeddings"}
