"""Find one q for a whole delta by evaluating checkpoints that were pruned with other values of it (DAREx's q with
labels or without: Deng et al., ICLR 2025, arXiv 2410.09344).
"""

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from secateur.pipelines.deltas.sources import DeltaSource
from secateur.pipelines.deltas.stream import DeltaChoice, Scored, cut_over_all, divisors_of, write_pruned
from secateur.pipelines.files.judged import Judged
from secateur.pipelines.files.own_code import code_content
from secateur.pipelines.files.partial_names import claimed
from secateur.pipelines.files.unwritable import disk_errors
from secateur.pipelines.storage.packed_masks import BITS
from secateur.scorers.lazy import named
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.trainers.contract import Progress
from secateur.trainers.passes.layer_inputs import LayerInputs
from secateur.trainers.pruning.delta_rescaling import FoundQ, mean_without_farthest, most_tried, q_by_search

SEARCHED: Final = 2
"""Word that separates the seeds of the search's masks from the seed of the final mask."""


@dataclass(frozen=True)
class QSearch:
    """The evaluation of checkpoints: `score` gives a number, higher is better, for the folder of a pruned one.

    A q with random masks is scored by the mean over `draws` masks, without the one farthest from it if there are three
    or more; none is the final mask. `made_of` identifies the evaluation: if it is set, a stopped run's results are used
    again.
    """

    score: Callable[[Path], float]
    name: str = ""
    draws: int = 4
    made_of: str = ""

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ValueError(f"q is judged by one draw of the mask at least, not {self.draws}")

    @classmethod
    def by(cls, name: str, draws: int = 4) -> "QSearch":
        """The evaluation by the function at `module:function`; raises ValueError for a missing one."""
        score = named(name, "the score of q")
        if not callable(score):
            raise ValueError(f"the score of q {name!r} is no function: it is called with the folder of a checkpoint")
        return cls(score, name, draws, code_content(name.partition(":")[0]))


def tried_file(folder: Path) -> Path:
    """The file of the results of a search for the q of a delta for `folder`, until the delta is written."""
    return folder.with_name(f"{folder.name}.tried.json")


def search_q(
    source: DeltaSource,
    folder: Path,
    choice: DeltaChoice,
    inputs: Mapping[str, LayerInputs],
    how: QSearch,
    progress: Progress | None = None,
) -> FoundQ:
    """The q with the best score of its pruned checkpoints, by `q_by_search`; masks are those of `choice`.

    Every checkpoint is written beside `folder`, evaluated and deleted again, one at a time. Raises ValueError for a
    score that is not a number.
    """
    draws = how.draws if choice.select == "random" else 1
    judged = Judged.read(tried_file(folder), how.made_of and f"{how.made_of} {source.made_for} {asdict(choice)}")
    most = most_tried(choice.keep) * draws

    def judge(q: float, draw: int) -> float:
        if (known := judged.values.get(key := f"{q!r} {draw}")) is not None:
            return float(known)
        seed = derive_seed(choice.seed, SEARCHED, draw) if choice.select == "random" else choice.seed
        value = score_of(source, folder, replace(choice, rescale=q, seed=seed), inputs, how)
        judged.note(key, value)
        if progress:
            progress(min(len(judged.values), most), most)
        return value

    return q_by_search(lambda q: mean_without_farthest([judge(q, draw) for draw in range(draws)]), choice.keep)


def score_of(
    source: DeltaSource, folder: Path, choice: DeltaChoice, inputs: Mapping[str, LayerInputs], how: QSearch
) -> float:
    """The score of the checkpoint of one choice."""
    scored = Scored(source, choice, inputs)
    cut = cut_over_all(scored)
    with disk_errors(folder), claimed(folder, folder=True) as partial:
        try:
            divisors = divisors_of(source, choice, inputs, scored.budgets)
            write_pruned(source, partial, lambda name: scored.masks(name, cut), divisors)
            (partial / BITS).unlink()
            value: Any = how.score(partial)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the score {how.name or how.score} gave {value!r}, which is no number") from error
    if not math.isfinite(number):
        raise ValueError(f"the score {how.name or how.score} gave {number} at q = {choice.rescale:g}, not a number")
    return number
