"""Masking retrieval heads, against masking as many other heads (arXiv 2404.15574, section 4).

One set of needle-in-a-haystack prompts scores the heads, another one evaluates the masks. The result depends on the
control heads: heads in front of the retrieval heads may be just as necessary without copying anything, heads behind
them are not. So there are three random controls: all other heads, those of earlier and those of later layers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import Field

from secateur.scorers.contract import Count, Positive, Share
from secateur.scorers.networks.retrieval_heads import (
    SENTENCE_END,
    Counting,
    HeadScores,
    NeedlePrompt,
    Retrieval,
    Task,
    place_needle,
    retrieval_heads,
    retrieve,
    words_recalled,
)
from secateur.scorers.settings import PATHS
from secateur.selectors.contract import MaskSelector
from secateur.selectors.masks.without_highest_heads import KeptHeads
from secateur.trainers.contract import Progress
from secateur.trainers.experiments.contract import Arm, Arms, ArmTrial, Experiment, Result
from secateur.trainers.experiments.drawing import COLOURS, INK, RANDOM_COLOUR, picture
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.models.causal_model import CausalModel, load_causal
from secateur.trainers.models.induction_model import BEGIN, SYMBOLS, train_induction_model
from secateur.trainers.pruning.masked_heads import How, kept_heads, masked_heads
from secateur.trainers.tasks.contract import Metric

NEEDLE = "The baker of the village puts a spoonful of roasted chestnut flour into every loaf of bread."
QUESTION = "What does the baker of the village put into every loaf of bread?"
CUE = 2
"""Symbols of the hidden piece that the tiny model's prompt repeats at its end."""


class Hidden(NamedTuple):
    """Prompts, and the needle of each in words."""

    prompts: list[NeedlePrompt]
    needles: list[str]


class ScoredHeads(NamedTuple):
    """A model, and the score of each of its heads."""

    causal: CausalModel
    scores: HeadScores


class HeadPruning(Experiment):
    """Needle recall with masked retrieval heads, and with as many other masked heads: a lower recall means necessary.

    Without `model`, the experiment trains a tiny model to copy for each seed, and the needle is a piece of random
    symbols; `layers` to `learning_rate` are settings of this model. `model` is a causal model of transformers, by name
    or folder. It reads the text file `haystack` with `needle` hidden in it, or with each of several needles, which then
    have a `question` each; the seed chooses the sentence at which the haystack begins. `lengths` are prompt lengths in
    tokens, `depths` is the number of places, `repeats` (tiny model) the number of prompts of each. `count` is that of
    `retrieval_heads`. Heads with scores above `threshold` are never a control.
    """

    unit = "head"
    paper = "arXiv 2404.15574"
    claim = (
        "A model stops finding the needle when its retrieval heads are masked, and not when as many heads of later "
        "layers are."
    )
    metrics = (Metric("recall", higher_is_better=False, percent=True), Metric("masked", unit="heads"))
    arms: ClassVar[Arms] = {
        "retrieval": Arm("retrieval_heads", "without_highest_heads"),
        "random": Arm("retrieval_heads", "without_other_heads", {"control": "random"}),
        "earlier": Arm("retrieval_heads", "without_other_heads", {"control": "earlier"}),
        "later": Arm("retrieval_heads", "without_other_heads", {"control": "later"}),
    }
    references: ClassVar[Arms] = {"full": Arm()}

    def __init__(
        self,
        *,
        model: Annotated[str | None, PATHS] = None,
        revision: str | None = None,
        haystack: Annotated[str | None, PATHS] = None,
        needle: str | Annotated[Sequence[str], Field(min_length=1)] = NEEDLE,
        question: str | Annotated[Sequence[str], Field(min_length=1)] = QUESTION,
        chat: bool = False,
        lengths: Annotated[Sequence[Count], Field(min_length=1)] = (16, 20, 24),
        depths: Count = 5,
        repeats: Count = 8,
        new_tokens: Count = 50,
        how: How = "zero",
        decoding_only: bool = False,
        threshold: Share = 0.1,
        count: Counting = "once",
        layers: Count = 3,
        width: Count = 128,
        heads: Count = 8,
        steps: Count = 600,
        learning_rate: Positive = 1e-3,
    ) -> None:
        if (model is None) != (haystack is None):
            raise ValueError("model and haystack go together: a model of yours needs a text to hide the needle in")
        if not lengths or depths < 1 or repeats < 1 or new_tokens < 1:
            raise ValueError("lengths, depths, repeats and new_tokens must not be empty or 0")
        self.model, self.revision, self.chat = model, revision, chat
        needles, questions = ([one] if isinstance(one, str) else list(one) for one in (needle, question))
        if len(needles) != len(questions) or not needles:
            raise ValueError(
                f"{len(needles)} needles and {len(questions)} questions: each needle wants its own question"
            )
        self.haystack, self.needles, self.questions = haystack, needles, questions
        self.lengths, self.depths, self.repeats, self.new_tokens = list(lengths), depths, repeats, new_tokens
        self.how: How = how
        self.count: Counting = count
        self.decoding_only, self.threshold = decoding_only, threshold
        shape = {"layers": layers, "width": width, "heads": heads}
        self.training: dict[str, Any] = {**shape, "steps": steps, "learning_rate": learning_rate}

    def prepare(self, seed: int, folder: Path, progress: Progress) -> None:
        """See `Experiment.prepare`; writes `scores.json`, and `model/` for the tiny model."""
        if self.model is None:
            self.train(seed, folder / "model", progress)
        causal = self.load(folder)
        retrievals, recalls = self.runs(causal, seed, "score", progress)
        scores = retrieval_heads(retrievals, recalls, count=self.count)
        (folder / "scores.json").write_text(
            json.dumps({"scores": scores.tolist(), "recall": float(recalls.mean()), "runs": len(recalls)})
        )

    def train(self, seed: int, folder: Path, progress: Progress) -> None:
        """Train the tiny model of a seed."""
        train_induction_model(folder, seed=seed, progress=progress, **self.training)

    def arm(self, name: str) -> Arm:
        """An arm with the threshold of the settings."""
        declared = super().arm(name)
        return replace(declared, settings={**declared.settings, "threshold": self.threshold})

    def units(self, trial: ArmTrial, prepared: Path) -> ScoredHeads:
        """The model, and its heads' scores."""
        scores = np.array(json.loads((prepared / "scores.json").read_text())["scores"], dtype=np.float32)
        return ScoredHeads(self.load(prepared), scores)

    def scores(self, trial: ArmTrial, units: ScoredHeads) -> HeadScores:
        """The scores that `prepare` wrote, the same for all arms."""
        return units.scores

    def seed_of(self, selector: MaskSelector[..., Any], seed: int) -> int:
        """The trial's seed."""
        return seed

    def outcome(self, trial: ArmTrial, units: ScoredHeads, masks: KeptHeads | None, progress: Progress) -> Result:
        """Recall with masked heads; a control with fewer heads than the budget masks them all: see metric `masked`."""
        model, stay = units.causal.model, np.ones(units.scores.shape, dtype=np.bool_) if masks is None else masks
        with masked_heads(model, stay, how=self.how, decoding_only=self.decoding_only):
            retrievals, recalls = self.runs(units.causal, trial.seed, "test", progress)
        settings = {"how": self.how, "decoding_only": self.decoding_only}
        outcome = Outcome(
            metrics={"recall": float(recalls.mean()), "masked": float(np.count_nonzero(~stay))},
            samples_seen=sum(len(run.prompt.tokens) + len(run.written) for run in retrievals),
            facts={"scores": units.scores.tolist()} if masks is None else {},
        )
        return Result(outcome, None if masks is None else kept_heads(model, stay, settings))

    def load(self, folder: Path) -> CausalModel:
        """The model of the settings, or the tiny one in the folder."""
        return load_causal(str(folder / "model") if self.model is None else self.model, self.revision)

    def runs(
        self, causal: CausalModel, seed: int, part: Literal["score", "test"], progress: Progress
    ) -> tuple[list[Retrieval], Float64[np.ndarray, " runs"]]:
        """Answers to the prompts of one part, and the share of the needle in each."""
        if self.model is None:
            prompts = hidden_pieces(
                self.lengths, self.depths, self.repeats, np.random.default_rng([seed, part == "test"])
            )
            answers = retrieve(causal.model, prompts, new_tokens=max(p.stop - p.start for p in prompts), batch=64)
            return answers, np.array([symbols_recalled(run.written, run.prompt.needle) for run in answers])
        hidden = self.hidden_sentences(causal.tokenizer, seed, part)
        answers = retrieve(causal.model, hidden.prompts, new_tokens=self.new_tokens, progress=progress)
        return answers, recalls_of(causal.tokenizer, answers, hidden.needles)

    def hidden_sentences(self, tokenizer: Any, seed: int, part: Literal["score", "test"]) -> Hidden:
        """Prompts over needles, lengths and depths; the depths of `test` lie between those of `score`."""
        assert self.haystack is not None
        text = Path(self.haystack).read_text(encoding="utf-8")
        if seed:
            ends = [match.end() for match in SENTENCE_END.finditer(text)] or [0]
            start = ends[int(np.random.default_rng(seed).integers(len(ends)))]
            text = text[start:].lstrip() + "\n" + text[:start]
        tasks = [Task(text, *pair) for pair in zip(self.needles, self.questions, strict=True)]
        places = (np.arange(self.depths) + (0.25 if part == "score" else 0.75)) / self.depths
        prompts = [
            place_needle(tokenizer, task, length=length, depth=float(depth), chat=self.chat)
            for task in tasks
            for length in self.lengths
            for depth in places
        ]
        return Hidden(prompts, [needle for needle in self.needles for _ in range(len(prompts) // len(self.needles))])

    def pictures(self, outcomes: Mapping[tuple[str, float, int], Outcome]) -> dict[str, bytes]:
        """Scores by layer and head, and recall against heads masked."""
        by_seed = {seed: np.array(one.facts["scores"]) for (arm, _, seed), one in outcomes.items() if arm == "full"}
        if not by_seed:
            return {}
        return {"head scores": score_map(by_seed), "recall by masked heads": recall_curves(outcomes)}


def hidden_pieces(
    lengths: Sequence[int], depths: int, repeats: int, generator: np.random.Generator
) -> list[NeedlePrompt]:
    """Prompts of random symbols with a piece of eight distinct ones, whose first two also end the prompt.

    The needle is the rest of the piece: a model that copies writes it next. Raises ValueError for a too short length.
    """
    prompts, piece = [], CUE + 6
    for length in lengths:
        room = length - 1 - CUE
        if room < piece:
            raise ValueError(f"a prompt of {length} symbols is too short for a piece of {piece}: ask for more")
        for depth in np.linspace(0, 1, depths):
            for _ in range(repeats):
                symbols = generator.integers(0, SYMBOLS, room)
                start = round(float(depth) * (room - piece))
                symbols[start : start + piece] = generator.permutation(SYMBOLS)[:piece]
                tokens = np.concatenate([[BEGIN], symbols, symbols[start : start + CUE]])
                prompts.append(NeedlePrompt(tokens, 1 + start + CUE, 1 + start + piece, float(depth)))
    return prompts


def recalls_of(tokenizer: Any, answers: Sequence[Retrieval], needles: Sequence[str]) -> Float64[np.ndarray, " runs"]:
    """Share of the needle's words in each answer."""
    written = [tokenizer.decode(run.written.tolist(), skip_special_tokens=True) for run in answers]
    return np.array([words_recalled(text, needle) for text, needle in zip(written, needles, strict=True)])


def symbols_recalled(written: Int64[np.ndarray, " written"], needle: Int64[np.ndarray, " needle"]) -> float:
    """Share of the needle's symbols that the model wrote at the right place."""
    count = min(len(written), len(needle))
    return float(np.count_nonzero(written[:count] == needle[:count])) / len(needle)


def score_map(by_seed: Mapping[int, np.ndarray]) -> bytes:
    """Heat map of scores, a row per layer and a column per head; the models of several seeds below each other."""
    seeds = sorted(by_seed)
    layers = len(by_seed[seeds[0]])
    rows = np.concatenate([by_seed[seed] for seed in seeds])
    return heat_map(rows, [f"seed {s}, layer {n}" if len(seeds) > 1 else str(n) for s in seeds for n in range(layers)])


def heat_map(scores: np.ndarray, names: Sequence[str]) -> bytes:
    """Heat map of scores `[rows, heads]`; darker is higher."""
    every = max(1, len(names) // 40)

    def draw(axes: Any) -> None:
        shown = axes.imshow(scores, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set(xlabel="head", ylabel="layer" if names[0].isdigit() else "")
        axes.set_yticks(range(0, len(names), every), names[::every])
        axes.grid(visible=False)
        bar = axes.figure.colorbar(shown, ax=axes)
        bar.set_label("retrieval score")

    return picture(draw, height=max(2.4, 0.16 * min(len(names), 40) + 0.8))


def recall_curves(outcomes: Mapping[tuple[str, float, int], Outcome]) -> bytes:
    """Recall against the number of masked heads: a line per arm, the mean over seeds, and a dot per seed."""
    colours = dict(zip(("retrieval", "earlier", "later"), COLOURS, strict=False)) | {"random": RANDOM_COLOUR}
    full = [one.metrics["recall"] for (arm, _, _), one in outcomes.items() if arm == "full"]

    def draw(axes: Any) -> None:
        for arm in HeadPruning.arms:
            found = [(one.metrics["masked"], one.metrics["recall"]) for (a, _, _), one in outcomes.items() if a == arm]
            masked = sorted({count for count, _ in found})
            means = [np.mean([recall for count, recall in found if count == at]) for at in masked]
            axes.plot([0, *masked], [np.mean(full), *means], "-", color=colours[arm], label=arm)
            axes.plot(
                *zip(*found, strict=True) if found else ([], []), "o", color=colours[arm], markersize=3, alpha=0.6
            )
        axes.axhline(np.mean(full), color=INK, linewidth=1, linestyle="-.", label="full")
        axes.set(xlabel="heads masked", ylabel="recall of the needle", ylim=(-0.03, 1.03))
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)

    return picture(draw, width=7.4)
