"""Searches over the tokens of an in-context prompt at equal forward passes (PromptQuine, arXiv 2506.17930).

The search reads a handful of examples; a second ranking evaluates its best masks on more of them, and the test
evaluates one prompt. Random masks go through the same steps, which makes them a strong baseline.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import xxhash
from jaxtyping import Float64
from pydantic import Field

from secateur.scorers.contract import Count
from secateur.scorers.settings import PATHS
from secateur.selectors.contract import MaskSelector, resolve_keep
from secateur.selectors.searches.contract import search
from secateur.selectors.searches.token_search import (
    HillClimbing,
    Mask,
    RandomMasks,
    ThresholdAccepting,
    TokenEvolution,
    TokenSearch,
)
from secateur.trainers.contract import Progress
from secateur.trainers.experiments.contract import ACCURACY, Arm, Arms, ArmTrial, Experiment, Result
from secateur.trainers.experiments.drawing import COLOURS, INK, RANDOM_COLOUR, picture
from secateur.trainers.experiments.prompt_examples import read_answers, read_examples, symbol_task
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.models.causal_model import CausalModel, load_causal
from secateur.trainers.models.induction_model import train_induction_model
from secateur.trainers.pruning.kept import Kept
from secateur.trainers.pruning.prompt_generation import Generation, Judging
from secateur.trainers.pruning.prompt_tokens import PLACEHOLDER, Evaluator, Examples, PromptTokens, prompt_tokens
from secateur.trainers.tasks.contract import Metric

TEST_EXAMPLES = 300


class Splits(NamedTuple):
    """Examples for the search, for the second ranking of its best masks, and for the test, once, at the end."""

    fitness: Examples
    rerank: Examples
    test: Examples


SEARCHES: Mapping[str, Callable[..., TokenSearch]] = {
    "random_masks": RandomMasks,
    "token_evolution": TokenEvolution,
    "threshold_accepting": ThresholdAccepting,
    "hill_climbing": HillClimbing,
}


@dataclass(frozen=True)
class Prompt:
    """Tokens of a prompt, the evaluator of its masks, and the attributes that a scorer of tokens reads."""

    tokens: PromptTokens
    evaluator: Evaluator | Generation
    splits: Splits
    passes: int
    oracle: Sequence[bool] | None

    @property
    def whole(self) -> dict[str, Mask]:
        """The mask of all tokens, and if the task knows its noise tokens, the mask without them."""
        masks = {"accuracy": np.ones(len(self.tokens.ids), dtype=np.bool_)}
        return masks if self.oracle is None else masks | {"without_noise": np.array(self.oracle)}

    @property
    def protected(self) -> Mask:
        """Tokens that must stay."""
        return self.tokens.protected

    @property
    def margins(self) -> Float64[np.ndarray, " prompts"]:
        """Margin of the whole prompt, then without each token, on as many examples as the budget of passes allows."""
        count = len(self.tokens.ids)
        masks = np.concatenate([np.ones((1, count), dtype=np.bool_), ~np.eye(count, dtype=np.bool_)])
        most = min(len(self.splits.rerank), max(1, self.passes // len(masks)))
        examples = Examples(self.splits.rerank.fields[:most], self.splits.rerank.labels[:most])
        return self.evaluator.margin(masks, examples)


class PromptPruning(Experiment):
    """Accuracy of a pruned in-context prompt, every search with the same number of forward passes.

    Without `model`, the experiment trains a tiny model to copy for each seed, and the prompt is pairs of symbols among
    noise symbols. `model` is a causal model of transformers, by name or folder. `template` is then the prompt with
    placeholders, `verbalisers` are the words for labels, and `examples` is a JSON-lines file whose objects have a text
    per placeholder and `label`, one of the words. The score of a word is the sum of its tokens' log-probabilities, with
    `per_token` their mean. With `generate`, the model writes at most so many tokens until `stop`, and `judge` compares
    them with the `answer` of each object. `keep` is the largest share of the template's tokens to keep.

    `fitness_examples` guide the search, balanced over labels; `rerank_examples` rank its `elites` again; all others, or
    `test_examples` of them, are the test. `patience` is the number of evaluations without improvement that ends a
    search.
    """

    unit = "token"
    paper = "arXiv 2506.17930"
    claim = "A prompt with tokens taken out by search beats the whole prompt, once the search's best are ranked again."
    arms: ClassVar[Arms] = {
        "random": Arm(settings={"search": "random_masks"}),
        "gga": Arm(settings={"search": "token_evolution", "form": "GGA"}),
        "ssga": Arm(settings={"search": "token_evolution", "form": "SSGA"}),
        "threshold_accepting": Arm(settings={"search": "threshold_accepting"}),
        "hill_climbing": Arm(settings={"search": "hill_climbing"}),
        "attribution": Arm("token_loss", "global_mask"),
    }
    references: ClassVar[Arms] = {"full": Arm()}
    metrics = (
        ACCURACY,
        Metric("unranked", percent=True),
        Metric("without_noise", percent=True),
        Metric("share_kept", percent=True),
        Metric("passes"),
        Metric("length", unit="tokens"),
    )

    def __init__(
        self,
        *,
        model: Annotated[str | None, PATHS] = None,
        revision: str | None = None,
        template: str | None = None,
        verbalisers: Sequence[str] = (),
        examples: Annotated[str | None, PATHS] = None,
        protect: Sequence[str] = (),
        per_token: bool = False,
        generate: Annotated[int | None, Field(ge=1)] = None,
        judge: Judging = "exact",
        stop: str = "\n",
        reward: Literal["accuracy", "margin"] = "accuracy",
        begin: Literal["full", "pruned"] = "pruned",
        population: Count = 30,
        offspring: Count = 50,
        passes: Count = 4000,
        fitness_examples: Count = 16,
        rerank_examples: Count = 100,
        test_examples: Annotated[int | None, Field(ge=1)] = None,
        elites: Count = 10,
        patience: Annotated[int | None, Field(ge=1)] = None,
        noise: Annotated[int, Field(ge=0)] = 10,
        steps: Count = 600,
    ) -> None:
        given = (model, template, examples, verbalisers or generate or None)
        if any(one is None for one in given) and any(one is not None for one in given):
            raise ValueError(
                "model, template, verbalisers (or generate) and examples go together: give all four, or none"
            )
        if generate and (verbalisers or per_token or reward == "margin"):
            raise ValueError("generated text has no verbalisers, per_token or margin: leave them out, or generate")
        if passes < elites * rerank_examples + fitness_examples:
            raise ValueError(f"{passes} passes do not reach for {elites} elites on {rerank_examples} examples each")
        self.model, self.revision, self.template, self.examples = model, revision, template, examples
        self.verbalisers, self.protect, self.reward, self.begin = list(verbalisers), list(protect), reward, begin
        self.population, self.offspring, self.passes, self.patience = population, offspring, passes, patience
        self.fitness_examples, self.rerank_examples, self.elites = fitness_examples, rerank_examples, elites
        self.per_token, self.generate, self.judge, self.stop = per_token, generate, judge, stop
        self.test_examples, self.noise, self.steps = test_examples, noise, steps

    def prepare(self, seed: int, folder: Path, progress: Progress) -> None:
        """See `Experiment.prepare`; writes the task as `task.json`, and `model/` for the tiny model."""
        if self.model is None:
            self.train(seed, folder / "model", progress)
            task = symbol_task(self.noise, self.fitness_examples + self.rerank_examples + TEST_EXAMPLES, seed)
        else:
            assert self.template is not None
            assert self.examples is not None
            placeholders, file = PLACEHOLDER.findall(self.template), Path(self.examples)
            task = {"template": self.template, "verbalisers": self.verbalisers}
            if self.generate:
                task["examples"], task["verbalisers"] = read_answers(file, placeholders)
            else:
                task["examples"] = read_examples(file, self.verbalisers, placeholders)
        self.splits(task, seed)
        self.evaluator(task, self.load(folder))
        (folder / "task.json").write_text(json.dumps(task))

    def train(self, seed: int, folder: Path, progress: Progress) -> None:
        """Train the tiny model of a seed."""
        train_induction_model(folder, seed=seed, steps=self.steps, progress=progress)

    def load(self, folder: Path) -> CausalModel:
        """The model of the settings, or the tiny one in the folder."""
        return load_causal(str(folder / "model") if self.model is None else self.model, self.revision)

    def units(self, trial: ArmTrial, prepared: Path) -> Prompt:
        """The prompt's tokens, their evaluator and the examples."""
        task = json.loads((prepared / "task.json").read_text())
        evaluator = self.evaluator(task, self.load(prepared))
        return Prompt(evaluator.prompt, evaluator, self.splits(task, trial.seed), self.passes, task.get("oracle"))

    def evaluator(self, task: Mapping[str, Any], causal: CausalModel) -> Evaluator | Generation:
        """The evaluator of a task's prompt: by generated text, or by verbalisers."""
        tokens, words = prompt_tokens(causal.tokenizer, task["template"], self.protect), task["verbalisers"]
        if self.generate:
            return Generation(causal, tokens, words, self.judge, new_tokens=self.generate, stop=self.stop)
        return Evaluator(causal, tokens, words, per_token=self.per_token)

    def scores(self, trial: ArmTrial, units: Prompt) -> dict[str, np.ndarray]:
        """The scores under the prompt's one group of tokens."""
        return {"prompt": super().scores(trial, units)}

    def seed_of(self, selector: MaskSelector[..., Any], seed: int) -> int:
        """The trial's seed."""
        return seed

    def outcome(self, trial: ArmTrial, units: Prompt, masks: Mapping[str, Mask] | None, progress: Progress) -> Result:
        """Accuracy of the arm's prompt on the test examples."""
        whole = trial.name in self.references
        if masks is not None:
            chosen = {"accuracy": masks["prompt"]}
        elif whole:
            chosen = units.whole
        else:
            chosen = self.searched(trial, units, progress)
        spent = units.evaluator.passes
        measured = units.evaluator.accuracy(np.stack(list(chosen.values())), units.splits.test)
        mask = chosen["accuracy"]
        metrics = dict(zip(chosen, measured.tolist(), strict=True))
        metrics |= {
            "share_kept": float(mask.mean()),
            "passes": float(spent),
            "length": float(units.tokens.length(mask)),
        }
        kept = None if whole else kept_tokens(units.tokens, mask)
        facts = {"prompt": units.tokens.text(mask)}
        return Result(Outcome(metrics=metrics, samples_seen=units.evaluator.passes, facts=facts), kept)

    def searched(self, trial: ArmTrial, units: Prompt, progress: Progress) -> dict[str, np.ndarray]:
        """The best mask of a search, `accuracy`, and its best mask without the second ranking, `unranked`.

        Both hill climbings search on the examples of the second ranking from the start, as their authors do.
        """
        searcher, evaluator = self.searcher(trial, units.tokens), units.evaluator
        climbs = isinstance(searcher, ThresholdAccepting)
        examples = units.splits.rerank if climbs else units.splits.fitness
        spare = 0 if climbs else self.elites * len(units.splits.rerank)
        measure = evaluator.margin if self.reward == "margin" and not climbs else evaluator.accuracy
        search(
            searcher,
            lambda masks: measure(masks, examples),
            max(1, (self.passes - spare) // len(examples)),
            batch=self.offspring,
            patience=self.patience,
            progress=progress,
        )
        elites = searcher.elites(most=self.elites)
        if not len(elites):
            elites = searcher.start()[None]  # The search ended before it found a mask within the budget.
        if climbs:
            return {"accuracy": elites[0]}
        again = evaluator.accuracy(elites, units.splits.rerank)
        return {"accuracy": elites[int(np.argmax(again))], "unranked": elites[0]}

    def searcher(self, trial: ArmTrial, tokens: PromptTokens) -> TokenSearch:
        """The search of an arm."""
        longest, form = resolve_keep(float(trial.keep), len(tokens.ids)), trial.setting("form")
        common: dict[str, Any] = {"longest": longest, "seed": trial.seed, "key": tokens.text}
        if form:
            common |= {"form": form, "begin": self.begin, "population": self.population, "offspring": self.offspring}
        return SEARCHES[trial.setting("search")](~tokens.protected, **common)

    def splits(self, task: Mapping[str, Any], seed: int) -> Splits:
        """Examples in three parts: balanced ones for the search, those of the second ranking, and the test."""
        every = task["examples"]
        labels = np.array([one["label"] for one in every], dtype=np.int64)
        order = np.random.default_rng([seed, 1]).permutation(len(labels))
        rank = np.empty(len(labels), dtype=np.int64)
        for label in np.unique(labels):
            of_label = order[labels[order] == label]
            rank[of_label] = np.arange(len(of_label))
        order = order[np.argsort(rank[order], kind="stable")]  # one of each label in turn
        first, second = self.fitness_examples, self.fitness_examples + self.rerank_examples
        rest = np.random.default_rng([seed, 2]).permutation(order[first:])
        order = np.concatenate([order[:first], rest])
        if len(order) <= second:
            raise ValueError(f"{len(order)} examples: {first} and {second - first} for the search leave none to test")
        last = None if self.test_examples is None else second + self.test_examples
        parts = (order[:first], order[first:second], order[second:last])
        return Splits(*(Examples(tuple(every[at]["fields"] for at in part), labels[part]) for part in parts))

    def pictures(self, outcomes: Mapping[tuple[str, float, int], Outcome]) -> dict[str, bytes]:
        """Accuracy against the share of tokens kept, a dot per seed."""
        return {"accuracy by tokens kept": accuracy_by_tokens(outcomes)} if outcomes else {}


def kept_tokens(prompt: PromptTokens, mask: Mask) -> Kept:
    """The kept units of a prompt for a manifest; they belong to exactly these tokens."""
    return Kept(
        "token", {"prompt": mask}, identity_of(prompt), {"prompt": prompt.text(mask), "template": prompt.template}
    )


def identity_of(prompt: PromptTokens) -> str:
    """A fingerprint of a tokenised template."""
    told = json.dumps([[list(piece.ids), piece.before, piece.after] for piece in prompt.pieces] + [prompt.fields])
    return f"tokens xxh3:{xxhash.xxh3_128_hexdigest(told.encode())}"


def pruned_prompt(prompt: PromptTokens, kept: Kept) -> str:
    """The text of a template with a manifest's kept tokens; raises ValueError for other units and other tokens."""
    if kept.unit != "token" or set(kept.groups) != {"prompt"}:
        raise ValueError(f"the kept units are {kept.unit}s, not tokens of a prompt")
    if kept.made_for != identity_of(prompt):
        raise ValueError("the tokens were kept of another template, or with another tokenizer")
    return prompt.text(kept.groups["prompt"])


def accuracy_by_tokens(outcomes: Mapping[tuple[str, float, int], Outcome]) -> bytes:
    """Accuracy against the share of tokens kept; hollow dots are masks chosen without the second ranking."""
    colours = dict(zip(list(PromptPruning.arms)[1:], COLOURS, strict=False)) | {"random": RANDOM_COLOUR}
    full = [one.metrics["accuracy"] for (arm, _, _), one in outcomes.items() if arm == "full"]

    def draw(axes: Any) -> None:
        for arm in PromptPruning.arms:
            found = [one.metrics for (name, _, _), one in outcomes.items() if name == arm]
            shares, colour = [100 * one["share_kept"] for one in found], colours[arm]
            axes.plot(shares, [100 * one["accuracy"] for one in found], "o", color=colour, label=arm, markersize=5)
            unranked = [100 * one.get("unranked", np.nan) for one in found]
            axes.plot(shares, unranked, "o", color=colour, mfc="none", markersize=4)
        if full:
            axes.axhline(100 * np.mean(full), color=INK, linewidth=1, linestyle="-.", label="full")
        axes.plot([], [], "o", color=INK, mfc="none", label="not ranked again")
        axes.set(xlabel="% of tokens kept", ylabel="test accuracy, %")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)

    return picture(draw, width=7.4)
