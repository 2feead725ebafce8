"""Limits of runs and storage at the limit and beside it, and unexpected files."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from secateur.pipelines.assets import resources
from secateur.pipelines.data.source_kinds.files import SourceError, in_one_sentence
from secateur.pipelines.data.types import rounded
from secateur.pipelines.files.shown_text import one_line
from secateur.pipelines.manifests.document import ManifestError, explained, short, shortened
from secateur.pipelines.runs import worker
from secateur.pipelines.runs.architectures import in_scale
from secateur.pipelines.runs.drift import Change
from secateur.pipelines.runs.findings import constant_scores
from secateur.pipelines.runs.outcomes import outcomes_in
from secateur.pipelines.runs.possible import budget_faults, checkpoint_faults, window_faults
from secateur.pipelines.runs.resumption import block_by_block, block_places, snapshots_of
from secateur.pipelines.storage.folder_names import is_safe
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.sections import Drift
from secateur.trainers.contract import TrainingConfig
from secateur.trainers.modalities.tables import exact


@pytest.fixture
def study(write_study: Callable[..., StudyFile]) -> Study:
    loaded = write_study(
        scores={"aum": None, "vog": None, "tdds": {"window": 3}},
        checkpoints=2,
        proxy={"epochs": 4, "batch_size": 32},
        selections={"hardest": {"selector": "top", "score": "aum", "classes": {"policy": "balanced", "floor": 5}}},
        keep=[10],
    ).study
    assert loaded
    return loaded


def test_drift_is_told_beyond_its_bounds_alone() -> None:
    drift = Drift(least_rank_correlation=0.5, most_subset_change=0.25)
    found = [
        Change(10, 0, 0, {"a": 0.5 - low}, {"b": 0.25 + more}).beyond(drift) for low in (0, 0.01) for more in (0, 0.01)
    ]
    assert [(len(scores), len(subsets)) for scores, subsets in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_score_is_constant_from_two_samples_on(study: Study, tmp_path: Path) -> None:
    for values, found in (([1.0], 0), ([1.0, 1.0], 1), ([1.0, np.nextafter(1, 2)], 0)):
        store = Store(tmp_path / str(len(values)) / str(found))
        store.save((study.name, "scores", "aum"), np.array(values))
        assert len(constant_scores(store, study)) == found


def test_what_the_rows_just_allow_is_no_fault(study: Study) -> None:
    def faults(keep: int, floor: int, sizes: list[int]) -> int:
        selection = study.selections["hardest"]
        classes = selection.classes.model_copy(update={"floor": floor}) if selection.classes else None
        changed = {"hardest": selection.model_copy(update={"classes": classes})}
        return len([*budget_faults(study.model_copy(update={"keep": [keep], "selections": changed}), np.array(sizes))])

    assert [faults(keep, 0, [6, 4]) for keep in (10, 11)] == [0, 1]
    assert [faults(8, floor, [6, 4]) for floor in (4, 5)] == [0, 1]
    assert faults(8, 9, [0, 5, 3]) == 0  # a class without rows needs none

    def epochs(number: int) -> TrainingConfig:
        return TrainingConfig(epochs=number, batch_size=32)

    settings = {name: score.settings for name, score in study.scores.items()}
    assert [len([*checkpoint_faults(study.scores, epochs(n), 100)]) for n in (1, 2)] == [1, 0]
    assert [len([*window_faults(study.scores, settings, epochs(n), 100)]) for n in (2, 3)] == [1, 0]


def test_outcomes_stand_in_the_order_of_the_study_whatever_was_loaded_first(study: Study) -> None:
    plain = {"kept": 1, "of": 2}
    trials = list(study.trials)
    assert len(trials) > 4
    assert list(outcomes_in(study, dict.fromkeys(reversed(trials[1:]), plain))) == trials[1:]


def test_blocks_are_made_from_the_first_that_is_missing_and_none_where_all_are_there(tmp_path: Path) -> None:
    asked = []

    def blocks(start: int) -> Iterator[str]:
        asked.append(start)
        return iter("abc"[start:])

    places = block_places(tmp_path, 25, 10)
    assert [place.name for place in places] == ["000000000000", "000000000010", "000000000020"]
    assert [len(block_places(tmp_path, count, 10)) for count in (0, 1, 10, 11)] == [0, 1, 1, 2]
    found = []
    for there in (0, 1, 3, 3):
        for place in places[1:] if there == 1 else []:
            place.unlink()
        found.append(block_by_block(places, blocks, lambda place, block: place.write_text(block) and None))
    assert (found, asked) == ([0, 1, 3, 3], [0, 1])
    assert [place.read_text() for place in places] == ["a", "b", "c"]


def test_snapshots_of_other_inputs_go_and_what_is_none_stays(tmp_path: Path) -> None:
    own, other, longer = "0123456789abcdef", "f" * 16, "f" * 17
    folder = tmp_path / "study" / ".snapshots"
    assert snapshots_of(Store(tmp_path), "study", "top@0.3/1", own * 4).folder == folder / f"top@0.3-1-{own}"
    for name in (own, other, longer, "notes", "F" * 16):
        (folder / f"top@0.3-1-{name}").mkdir(parents=True)
    (folder / f"top@0.3-11-{other}").mkdir()
    snapshots_of(Store(tmp_path), "study", "top@0.3/1", own * 4)
    assert {path.name for path in folder.iterdir()} == {
        *(f"top@0.3-1-{name}" for name in (own, longer, "notes", "F" * 16)), f"top@0.3-11-{other}",
    }  # fmt: skip


@pytest.mark.parametrize("module", [worker, resources])
def test_progress_is_told_at_the_interval_and_at_the_end(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now, lines = [0.0], list[str]()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    context: Any = SimpleNamespace(log=SimpleNamespace(info=lines.append))
    told = worker.telling(context) if module is worker else resources.ProgressDisplay().start(context, "work")
    for done, now[0] in ((1, 4.9), (2, 5.0), (3, 9.9), (4, 10.0), (5, 10.1)):
        told(done, 5)
    assert [line.split()[-3] for line in lines] == ["2", "4", "5"]


def test_a_folder_name_is_of_a_hundred_bytes_at_most() -> None:
    assert [is_safe(name) for name in ("a" * 100, "a" * 101, "é" * 50, "é" * 50 + "a")] == [True, False, True, False]


def test_texts_are_cut_where_they_are_longer_than_they_may_be() -> None:
    assert [one_line("abcd", longest) for longest in (5, 4, 3)] == ["abcd", "abcd", "ab…"]
    assert [len(str(ManifestError("x" * count))) for count in (599, 600, 601)] == [599, 600, 600]
    assert [shortened("x" * count)[0] for count in (200, 201)] == ["x", "…"]
    assert [short("x" * count)[-1] for count in (78, 79)] == ["'", "…"]


@pytest.mark.parametrize("last", [2**53 - 1, 2**53, 2**53 + 1, -(2**53) + 1, -(2**53), -(2**53) - 1, -(2**62) - 1])
def test_a_float_holds_whole_numbers_up_to_two_to_the_53rd(last: int) -> None:
    import polars as pl

    values = pl.Series([0, last, None])
    assert rounded(values).tolist() == [False, int(float(last)) != last, False]
    assert exact(values) is (abs(last) <= 2**53)


@pytest.mark.parametrize(("scale", "most"), [("share", 1.0), ("percent", 100.0)])
def test_accuracies_are_within_their_scale(scale: Any, most: float) -> None:
    values = np.array([np.nextafter(0, -1), 0.0, most, np.nextafter(most, 2 * most)])
    assert in_scale(values, scale).tolist() == [False, True, True, False]


@pytest.mark.parametrize("error", [ValueError, MemoryError, OSError, RecursionError, OverflowError])
def test_an_error_without_a_text_is_named_by_its_kind(error: type[Exception]) -> None:
    with pytest.raises(ManifestError) as caught, explained("this cannot be"):
        raise error
    assert str(caught.value) == f"this cannot be: {error.__name__}"
    with pytest.raises(SourceError) as told, in_one_sentence("train"):
        raise error
    assert str(told.value) == f"train: {error.__name__}"
