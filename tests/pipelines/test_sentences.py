"""A step that fails by a mistake of the user's shows the sentence in the UI; other failures keep their stack."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run

from secateur.pipelines.assets.sentences import Sentence, told_in_a_sentence
from secateur.pipelines.definitions import build
from secateur.pipelines.storage.store import Store
from secateur.selectors.contract import resolve_keep


def ours(*_: Any) -> None:
    resolve_keep(-1, 10)


def a_slip(*_: Any) -> None:
    """A mistake in code, for which numpy raises the same class of error."""
    np.zeros(3).reshape(2, 2)


def of_the_user(*_: Any) -> None:
    raise ValueError("raised by a task of the user's own")


@pytest.mark.parametrize("step", [ours, a_slip, of_the_user])
@pytest.mark.parametrize("generator", [False, True])
def test_only_what_our_code_raises_is_a_sentence(step: Callable[..., None], *, generator: bool) -> None:
    def yielding(*_: Any) -> Iterator[None]:
        step()
        yield

    expected = Sentence if step is ours else ValueError
    with pytest.raises(ValueError, match=r".") as found:
        list(told_in_a_sentence(yielding)()) if generator else told_in_a_sentence(step)()
    assert type(found.value) is expected
    if step is ours:
        assert str(found.value) == str(found.value.__cause__)


def failures(defs: dg.Definitions, key: dg.AssetKey) -> list[Any]:
    """The UI's texts for the failed steps of a run of one asset."""
    job, graph = defs.resolve_implicit_global_asset_job_def(), defs.resolve_asset_graph()
    keys = frozenset(dg.AssetSelection.assets(key).required_multi_asset_neighbors().resolve(graph))
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(job, asset_selection=keys)
        execute_run(InMemoryJob(job), run, instance)
        events = [log.dagster_event for log in instance.all_logs(run.run_id) if log.dagster_event]
    return [event.step_failure_data.error for event in events if event.is_step_failure]


def test_the_ui_shows_the_sentence_alone(write_study: Any, tmp_path: Path) -> None:
    """For unreadable data, and for a stored file that was changed."""
    file, store = write_study(), Store(tmp_path / "store")
    (tmp_path / "data" / "train.parquet").write_bytes(b"no parquet")
    [error] = failures(build([file], store.root), dg.AssetKey(["blobs", "samples"]))
    assert error.message.startswith(f"{tmp_path}/data/train.parquet is not a readable Parquet file")
    assert (error.stack, error.cause, error.context) == ([], None, None)
    [error] = failures(build([file], store.root), dg.AssetKey(["blobs", "tuning"]))
    assert re.fullmatch(rf"blobs/\w+ is not below {store.root}: materialise it first", error.message)
    assert error.stack == []
