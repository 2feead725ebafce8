"""The check for results of the same inputs: when work runs, the content of an entry, failures and copies."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secateur.pipelines.storage.ledger import Ledger, digest_of
from secateur.pipelines.storage.records import record_place
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial

KEY, COST = ("study", "model"), ("study", "model_cost")
TRIAL = Trial("top@0.3", 1)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Store(tmp_path / "store"))


class Work:
    """Writes a folder of two files and a cost beside it, and counts its runs."""

    def __init__(self, ledger: Ledger) -> None:
        self.store, self.times = ledger.store, 0

    def __call__(self) -> None:
        self.times += 1
        with self.store.folder(KEY, TRIAL) as folder:
            (folder / "weights.bin").write_bytes(bytes([self.times] * 8))
            (folder / "record.json").write_text("{}")
        self.store.save(COST, {"seconds": 1.0}, TRIAL)


def test_work_runs_once_for_the_same_inputs(ledger: Ledger) -> None:
    work = Work(ledger)
    for made_of, times in (("a", 1), ("a", 1), ("b", 2), ("b", 2), ("a", 3)):
        path = ledger.once(KEY, TRIAL, made_of, work, beside=[COST])
        assert (path / "weights.bin").read_bytes()[0] == work.times == times
    assert not ledger.holds(KEY, Trial("top@0.3", 2), "a", beside=[COST])
    assert not Ledger(ledger.store, "other").holds(KEY, TRIAL, "a", beside=[COST])


@pytest.mark.parametrize(
    "damage",
    [
        lambda store: shutil.rmtree(store.place(KEY, TRIAL)),
        lambda store: (store.place(KEY, TRIAL) / "weights.bin").unlink(),
        lambda store: (store.place(KEY, TRIAL) / "weights.bin").write_bytes(b"cut"),
        lambda store: (store.place(KEY, TRIAL) / "record.json").write_text("[]"),
        lambda store: (store.place(KEY, TRIAL) / "weights.bin").write_bytes(b"as long!"),
        lambda store: (store.place(KEY, TRIAL) / "more.bin").write_bytes(b"more"),
        lambda store: record_place(store.root, KEY, TRIAL).unlink(),
        lambda store: record_place(store.root, KEY, TRIAL).write_text("{"),
        lambda store: store.find(COST, TRIAL).unlink(),
        lambda store: store.find(COST, TRIAL).write_text('{"seconds": 2.0}'),
        lambda store: Ledger(store).place(KEY, TRIAL).write_text(Ledger(store).place(KEY, TRIAL).read_text()[:40]),
        lambda store: Ledger(store).place(KEY, TRIAL).write_text('{"made_of": "a", "state": null}'),
        lambda store: Ledger(store).forget(KEY, TRIAL),
        lambda store: Ledger(store).forget(KEY),
    ],
    ids=[
        "folder",
        "file",
        "shorter file",
        "JSON",
        "other bytes",
        "file more",
        "no record",
        "half a record",
        "beside",
        "other beside",
        "half an entry",
        "other entry",
        "forget",
        "forget all",
    ],
)
def test_a_result_that_is_not_whole_is_made_again(damage: Callable[[Store], object], ledger: Ledger) -> None:
    work = Work(ledger)
    ledger.once(KEY, TRIAL, "a", work, beside=[COST])
    damage(ledger.store)
    ledger.once(KEY, TRIAL, "a", work, beside=[COST])
    assert work.times == 2
    assert ledger.holds(KEY, TRIAL, "a", beside=[COST])


def test_a_result_of_another_trial_and_the_same_inputs_is_copied(ledger: Ledger) -> None:
    work, other = Work(ledger), Trial("all@1.0", 2)
    ledger.once(KEY, TRIAL, "a", work)
    path = ledger.once(KEY, other, "a", work, alike=[Trial("none", 0), TRIAL])
    assert (work.times, (path / "weights.bin").read_bytes()) == (1, bytes([1] * 8))
    assert ledger.holds(KEY, other, "a")
    ledger.once(KEY, TRIAL, "b", work, alike=[other])
    assert work.times == 2


def test_folders_of_other_inputs_are_dropped(ledger: Ledger) -> None:
    store = ledger.store
    for name, made_of in (("one", "a"), ("two", "a"), ("three", "a")):
        with store.folder((*KEY, name)) as folder:
            (folder / "x").write_bytes(b"x")
        ledger.note((*KEY, name), None, made_of)
    ledger.forget((*KEY, "three"))
    ledger.drop_others(KEY, {"one": "a", "two": "b", "three": "a"})
    assert [path.name for path in store.place(KEY).iterdir()] == ["one"]
    assert ledger.entry((*KEY, "two")) is None


def test_work_that_fails_behind_its_result_leaves_no_entry_of_either(ledger: Ledger) -> None:
    work = Work(ledger)
    ledger.once(KEY, TRIAL, "a", work)

    def fails() -> None:
        work()
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        ledger.once(KEY, TRIAL, "b", fails)
    assert not ledger.holds(KEY, TRIAL, "a")
    assert not ledger.holds(KEY, TRIAL, "b")
    with pytest.raises(FileNotFoundError, match=r"nothing is not below"):
        ledger.once(("study", "nothing"), None, "a", lambda: None)
    assert ledger.entry(("study", "nothing")) is None


def test_trials_that_end_at_once_lose_no_entry(ledger: Ledger) -> None:
    trials = [Trial(f"top@0.{share}", seed) for share in range(1, 9) for seed in range(8)]

    def run(trial: Trial) -> None:
        ledger.once(KEY, trial, str(trial), lambda: ledger.store.save(KEY, np.full(3, trial.seed), trial))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(run, trials))
    assert [trial for trial in trials if not ledger.holds(KEY, trial, str(trial))] == []
    ledger.forget(KEY, trials[0])
    assert [ledger.holds(KEY, trial, str(trial)) for trial in trials[:2]] == [False, True]


def test_a_copy_of_the_store_holds_what_the_store_held(ledger: Ledger, tmp_path: Path) -> None:
    ledger.once(KEY, TRIAL, "a", Work(ledger), beside=[COST])
    shutil.copytree(ledger.store.root, tmp_path / "copy", copy_function=shutil.copyfile)
    assert Ledger(Store(tmp_path / "copy")).holds(KEY, TRIAL, "a", beside=[COST])


@pytest.mark.parametrize(("value", "other"), [(np.arange(4), np.arange(4) + 1), ({"a": 1}, {"a": 2})])
def test_what_is_written_again_is_another_where_it_holds_something_else(ledger: Ledger, value: Any, other: Any) -> None:
    store = ledger.store
    store.save(KEY, value)
    ledger.note(KEY, None, "a")
    assert ledger.holds(KEY, None, "a")
    assert not ledger.holds(KEY, None, "b")
    store.save(KEY, value)
    assert ledger.holds(KEY, None, "a")
    store.save(KEY, other)
    assert not ledger.holds(KEY, None, "a")
    assert not ledger.faults(KEY, None)


def test_digests_are_of_content(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32)
    known = digest_of(values=values, name="x")
    assert known == digest_of(name="x", values=values.copy())
    others = [values.astype(np.float64), values.reshape(2, 3), values[::-1]]
    assert len({known, *(digest_of(values=other, name="x") for other in others), digest_of(values=values)}) == 5
    for name, content in (("one", b"same"), ("two", b"same"), ("three", b"other")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(content)
    one, two, three = (digest_of(path=tmp_path / name) for name in ("one", "two", "three"))
    assert one == two != three
    assert digest_of(path=tmp_path / "one" / "file") == digest_of(path=tmp_path / "two" / "file") != one
    with pytest.raises(FileNotFoundError):
        digest_of(path=tmp_path / "none")
