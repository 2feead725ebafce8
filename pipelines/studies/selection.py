"""A study's selections: a static selector, or an in-training sampler, each with its settings."""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from secateur.pipelines.studies.rejections import checked, require
from secateur.pipelines.studies.scores import Score, require_score
from secateur.pipelines.studies.target import OF_SOURCES, OF_TARGET
from secateur.scorers.contract import discover, positional
from secateur.scorers.settings import Settings
from secateur.selectors.class_policy import Policy, with_class_policy
from secateur.selectors.contract import Selector, of_other_units, selectors
from secateur.selectors.draws.ranks import Keep
from secateur.selectors.samplers.contract import EpochSampler

Chooser: TypeAlias = Selector[...] | type[EpochSampler]
OWN_KEYS = {"score", "cut_by", "classes", "budget"}
"""Keys of a selection in YAML that are no settings of its selector."""


@cache
def choosers() -> Mapping[str, Chooser]:
    """Everything that a selection may name: selectors, and samplers that select while training."""
    import secateur.selectors

    def chooses(kind: Chooser) -> bool:
        if isinstance(kind, Selector):
            return True
        return not inspect.isabstract(kind) and "keep" not in positional(kind.__init__)

    return discover(secateur.selectors, Selector, EpochSampler, holds=chooses)


def require_static(name: str, key: str) -> None:
    """Raise ValueError, with key and remedy, for what is no selector, or one that needs a training to go on."""
    if name in choosers() and name not in selectors():
        raise ValueError(
            f"{key}: {name!r} selects while a model trains, and nothing is trained here: add proxy and training to a "
            "study, or use it as a sampler in a loop of your own"
        )
    require(name, selectors(), key, of_other_units)


def with_score_for_aum(chosen: Selector[...]) -> Selector[...]:
    """The same selector for tasks without margins: samples of the highest `scores` stand for those of lowest `aum`."""
    before = inspect.signature(chosen.choose)
    parameters = [
        each.replace(name="scores") if name == "aum" else each
        for name, each in before.parameters.items()
        if name != "scores"
    ]
    after = before.replace(parameters=parameters)

    def choose(*args: Any, **kwargs: Any) -> Keep:
        arguments = after.bind(*args, **kwargs).arguments
        scores = arguments["scores"] if "scores" in before.parameters else arguments.pop("scores")
        return chosen.choose(**arguments, aum=-scores)

    choose.__signature__ = after  # type: ignore[attr-defined]
    return replace(chosen, choose=choose, reads=positional(choose))


class ClassShares(Settings):
    """How classes share the budget."""

    policy: Annotated[Policy, Field(description="none, proportional or balanced")] = "none"
    floor: Annotated[int, Field(ge=0, description="samples that stay of each class")] = 0


class Selection(Settings):
    """A selector, or a sampler that selects anew in every epoch, with its settings and the score that it reads."""

    selector: Annotated[
        str, Field(description="a selector or sampler; may be left out where the selection has its name")
    ]
    score: Annotated[str | None, Field(description="of the study, where the selector reads scores")] = None
    cut_by: Annotated[
        Literal["aum", "score"] | None,
        Field(description="what tells the hardest samples, which some selectors cut; score where a task has no aum"),
    ] = None
    classes: Annotated[ClassShares | None, Field(description="how classes share the budget; not for samplers")] = None
    budget: Annotated[
        Literal["study", "own"],
        Field(description="own: an in-training selection of as many samples as its settings say, at no budget"),
    ] = "study"
    settings: Annotated[dict[str, Any], Field(description="of the selector; a YAML writes them beside selector")] = (
        Field(default_factory=dict)
    )

    @property
    def declared(self) -> Chooser:
        """The selector, under the class policy if there is one, or the sampler's class."""
        plain = choosers()[self.selector]
        if isinstance(plain, Selector) and "aum" in plain.reads and self.cut_by == "score":
            plain = with_score_for_aum(plain)
        if isinstance(plain, Selector) and self.classes:
            return with_class_policy(plain, self.classes.policy, floor=self.classes.floor)
        return plain

    @property
    def static(self) -> Selector[...]:
        """The selector of a static selection."""
        assert isinstance(self.declared, Selector)
        return self.declared

    @property
    def in_training(self) -> bool:
        """Whether samples are chosen anew in every epoch."""
        return inspect.isclass(self.declared)

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the positional parameters."""
        if isinstance(self.declared, Selector):
            return self.declared.reads
        return tuple(name for name in positional(self.declared.__init__) if name not in ("self", "shard"))

    @property
    def untuned(self) -> tuple[str, ...]:
        """Settings to be chosen on the validation split."""
        if not isinstance(self.declared, Selector):
            return ()
        return tuple(name for name in self.declared.tunable if self.settings.get(name) is None)

    def check(self, name: str) -> None:
        """Raise ValueError where the selector does not exist or does not take these settings."""
        require(self.selector, choosers(), f"{name}.selector", of_other_units)
        declared = self.declared
        if (OF_TARGET | OF_SOURCES).intersection(self.reads):
            raise ValueError(
                f"{name}.selector: {self.selector!r} reads examples of a job, which a study has none of; use secateur "
                "select DATA --target EXAMPLES"
            )
        if self.cut_by and "aum" not in getattr(choosers()[self.selector], "reads", ()):
            raise ValueError(f"{name}.cut_by: {self.selector!r} cuts no samples by aum; leave it out")
        if isinstance(declared, Selector):
            if self.budget == "own":
                raise ValueError(f"{name}.budget: {self.selector!r} keeps the study's budget; leave it out")
            tuned = {setting: values[0] for setting, values in declared.tunable.items()}
            plain = selectors()[self.selector]  # under a class policy room is a class's own
            checked(declared.settings, tuned | self.settings, name, lambda held: plain.most(2**40, held.model_dump()))
            return
        if self.classes is not None:
            raise ValueError(f"{name}.classes: {self.selector!r} selects in training and has no class policy")
        takes = "keep" in declared.settings.model_fields
        if self.budget == "study" and not takes:
            raise ValueError(f"{name}.budget: {self.selector!r} goes by its own settings; write budget: own")
        if self.budget == "study" and "keep" in self.settings:
            raise ValueError(f"{name}.keep: the study's budgets are held; leave it out, or write budget: own")
        budget = {"keep": 1} if self.budget == "study" else {}
        checked(declared.settings, budget | self.settings, name, declared.refuse)

    def check_score(self, name: str, scores: Mapping[str, Score]) -> None:
        """Raise ValueError where the score is missing, unknown to the study, read by nobody or turned the wrong way."""
        if "scores" not in self.reads:
            if self.score is not None:
                raise ValueError(f"selections.{name}.score: {self.selector!r} reads no score; leave it out")
            return
        if self.score is None:
            listed = ", ".join(scores)
            raise ValueError(f"selections.{name}.score: {self.selector!r} reads a score; name one of {listed}")
        require_score(self.score, scores, f"selections.{name}.score")
        high_means = scores[self.score].declared.card.high_means
        if self.cut_by == "score" and high_means != "harder":
            raise ValueError(
                f"selections.{name}.score: {self.selector!r} cuts the hardest samples by it where there is no aum, and "
                f"high {self.score} means {high_means}: name a score where it means harder, such as el2n or loss"
            )
