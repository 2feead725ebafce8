"""A study's selections: a static selector, or an in-training sampler, each with its settings."""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, PrivateAttr

from secateur.pipelines.studies.output_scores import OutputScore
from secateur.pipelines.studies.own_scores import OwnScore
from secateur.pipelines.studies.rejections import checked, require
from secateur.pipelines.studies.scores import Score, card_of, require_score
from secateur.scorers.contract import discover, positional
from secateur.scorers.settings import STUDY_PATHS, Settings
from secateur.selectors.class_policy import Policy, with_class_policy
from secateur.selectors.contract import Selector, of_other_units, selectors
from secateur.selectors.draws.ranks import Keep
from secateur.selectors.samplers.contract import EpochSampler

Chooser: TypeAlias = Selector[...] | type[EpochSampler]
OWN_KEYS = {"score", "cut_by", "classes", "by", "share", "budget", "manifest", "as_many_as"}
"""Keys of a selection in YAML that are not settings of its selector."""
LISTED = ("manifest", "as_many_as")
"""Keys of a selection by which a manifest sets the number of rows."""
RANDOM = "_random"
"""Suffix of such a selection's random baseline, which keeps as many rows."""
HARDNESS: Mapping[str, str] = {"aum": "easier", "el2n": "harder"}
"""Meaning of high values of the scores by which selectors recognise hard samples; a score of hardness may replace
them."""


@cache
def choosers() -> Mapping[str, Chooser]:
    """All selectors, and samplers that select during training."""
    import secateur.selectors

    def chooses(kind: Chooser) -> bool:
        if isinstance(kind, Selector):
            return True
        return not inspect.isabstract(kind) and "keep" not in positional(kind.__init__)

    return discover(secateur.selectors, Selector, EpochSampler, holds=chooses)


def require_static(name: str, key: str) -> None:
    """Raise ValueError, with key and remedy, for an unknown selector or one that selects during training."""
    if name in choosers() and name not in selectors():
        raise ValueError(
            f"{key}: {name!r} selects while a model trains, and nothing is trained here: add proxy and training to a "
            "study, or use it as a sampler in a loop of your own"
        )
    require(name, selectors(), key, of_other_units)


def with_score_for(chosen: Selector[...], named: str) -> Selector[...]:
    """The same selector, which reads `scores` in place of the hardness score `named`; high `scores` mean harder."""
    before, sign = inspect.signature(chosen.choose), 1 if HARDNESS[named] == "harder" else -1
    parameters = [
        each.replace(name="scores") if name == named else each
        for name, each in before.parameters.items()
        if name != "scores"
    ]
    after = before.replace(parameters=parameters)

    def choose(*args: Any, **kwargs: Any) -> Keep:
        arguments = after.bind(*args, **kwargs).arguments
        scores = arguments["scores"] if "scores" in before.parameters else arguments.pop("scores")
        return chosen.choose(**arguments, **{named: scores if sign == 1 else -scores})

    choose.__signature__ = after  # type: ignore[attr-defined]
    return replace(chosen, choose=choose, reads=positional(choose))


def with_opposite_scores(chosen: Selector[...]) -> Selector[...]:
    """The same selector, which reads the negative of `scores`, such as ease as hardness."""
    signature = inspect.signature(chosen.choose)

    def choose(*args: Any, **kwargs: Any) -> Keep:
        arguments = signature.bind(*args, **kwargs).arguments
        return chosen.choose(**{**arguments, "scores": -arguments["scores"]})

    choose.__signature__ = signature  # type: ignore[attr-defined]
    return replace(chosen, choose=choose)


def check_shares(where: str, by: str | None, share: str | Mapping[str, float]) -> None:
    """Raise ValueError for shares without a column, and for invalid shares."""
    if by is None and share != "proportional":
        raise ValueError(f"{where}.share: say by which column with by, or leave share out")
    if isinstance(share, Mapping):
        try:
            refuse_no_parts(share)
        except ValueError as error:
            raise ValueError(f"{where}.{error}") from error


def refuse_no_parts(share: Mapping[Any, float]) -> None:
    """Raise ValueError for shares that are empty, negative, or add up to more than 1."""
    if not share or min(share.values()) < 0 or sum(share.values()) > 1 + 1e-9:
        raise ValueError(f"share: parts are from 0 on and add up to 1 at most, and these are {dict(share)}")


class ClassShares(Settings):
    """The classes' shares of the budget."""

    policy: Annotated[Policy, Field(description="none, proportional or balanced")] = "none"
    floor: Annotated[int, Field(ge=0, description="fewest samples of each class")] = 0


class Selection(Settings):
    """A selector, or a sampler that selects anew in every epoch, with its settings and its score."""

    selector: Annotated[str, Field(description="a selector or sampler; optional if the selection has its name")]
    score: Annotated[str | None, Field(description="a score of the study, if the selector reads one")] = None
    cut_by: Annotated[
        Literal["aum", "score"] | None,
        Field(description="the score by which some selectors cut the hardest samples; score if the task has no aum"),
    ] = None
    classes: Annotated[ClassShares | None, Field(description="the classes' shares of the budget; no samplers")] = None
    by: Annotated[str | None, Field(description="column whose values each receive a part of the budget")] = None
    share: Annotated[
        Literal["proportional", "balanced"] | dict[str, float],
        Field(description="with by: parts as large as each value's, equal parts, or a share by value"),
    ] = "proportional"
    budget: Annotated[
        Literal["study", "own"],
        Field(description="own: an in-training selection whose own settings set its number of samples"),
    ] = "study"
    manifest: Annotated[
        Path | None,
        STUDY_PATHS,
        Field(description="folder of a manifest, relative to the study's: keeps its rows, without a budget"),
    ] = None
    as_many_as: Annotated[
        str | None,
        Field(description="a selection with a manifest: keeps as many random rows, others in each seed"),
    ] = None
    settings: Annotated[dict[str, Any], Field(description="the selector's; YAML writes them beside selector")] = Field(
        default_factory=dict
    )

    _turned: bool = PrivateAttr(False)
    """Whether a selector of hard samples reads the negative of the user's score, whose high values mean easier."""

    @property
    def cuts(self) -> set[str]:
        """Hardness scores that the selector reads by name."""
        plain = choosers().get(self.selector)
        return set(HARDNESS).intersection(plain.reads) if isinstance(plain, Selector) else set()

    def turned_for(self, name: str, scores: Mapping[str, Score | OwnScore]) -> "Selection":
        """The selection, with a user's score of ease negated if the selector distinguishes hard samples.

        Raises ValueError if the user's score means neither harder nor easier.
        """
        score = scores.get(self.score or "")
        if not isinstance(score, OwnScore) or isinstance(score, OutputScore) or not self.cuts:
            return self
        if score.high_means not in HARDNESS.values():
            raise ValueError(
                f"selections.{name}.score: {self.selector!r} tells hard samples from easy ones, and high "
                f"{self.score} means {score.high_means}: name a score whose high_means is harder or easier, or a "
                "selector such as top or band"
            )
        turned = self.model_copy()
        turned._turned = score.high_means == "easier"
        return turned

    @property
    def declared(self) -> Chooser:
        """The selector, with the class policy if there is one, or the sampler's class."""
        plain = choosers()[self.selector]
        if isinstance(plain, Selector) and self.cuts and self.cut_by == "score":
            plain = with_score_for(plain, next(iter(self.cuts)))
        if isinstance(plain, Selector) and self._turned and "scores" in plain.reads:
            plain = with_opposite_scores(plain)
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
        """Whether the selection draws samples anew in every epoch."""
        return inspect.isclass(self.declared)

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the positional parameters."""
        if isinstance(self.declared, Selector):
            return self.declared.reads
        return tuple(name for name in positional(self.declared.__init__) if name not in ("self", "shard"))

    @property
    def untuned(self) -> tuple[str, ...]:
        """Missing settings, to tune on the validation split."""
        if not isinstance(self.declared, Selector):
            return ()
        return tuple(name for name in self.declared.tunable if self.settings.get(name) is None)

    def check(self, name: str) -> None:
        """Raise ValueError if the selector does not exist or does not accept these settings."""
        require(self.selector, choosers(), f"{name}.selector", of_other_units)
        declared = self.declared
        self.check_listed(name)
        self.check_quotas(name)
        if self.cut_by and not self.cuts:
            raise ValueError(f"{name}.cut_by: {self.selector!r} cuts no samples by aum; leave it out")
        if isinstance(declared, Selector):
            if self.budget == "own" and not self.listed:
                raise ValueError(f"{name}.budget: {self.selector!r} keeps the study's budget; leave it out")
            tuned = {setting: values[0] for setting, values in declared.tunable.items()}
            plain = selectors()[self.selector]  # under a class policy, bounds apply within each class
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

    @property
    def listed(self) -> bool:
        """Whether a manifest sets the number of rows."""
        return self.manifest is not None or self.as_many_as is not None

    def check_listed(self, name: str) -> None:
        """Raise ValueError for other keys of a selection if a manifest sets its rows or their number."""
        if not self.listed:
            return
        if self.manifest is not None and self.as_many_as is not None:
            raise ValueError(f"{name}.as_many_as: the manifest says which rows stay; leave one of them out")
        fields = {**self.model_dump(include={"score", "cut_by", "classes", "by"}), "settings": self.settings or None}
        given = [key for key, value in fields.items() if value is not None]
        if self.selector != "uniform_random":
            given.insert(0, "selector")
        if given:
            what = "which rows stay" if self.manifest is not None else "how many rows stay"
            raise ValueError(f"{name}.{given[0]}: the manifest says {what}; leave {given[0]} out")

    def check_quotas(self, name: str) -> None:
        """Raise ValueError for invalid quotas, and for quotas of a selection that cannot follow them."""
        check_shares(name, self.by, self.share)
        if self.by is None:
            return
        if self.in_training:
            raise ValueError(
                f"{name}.by: {self.selector!r} draws the rows of each epoch by its own rule, not by values of a "
                "column; leave by out, or name a selector"
            )
        if self.classes is not None:
            raise ValueError(f"{name}.by: classes share the budget already; leave by or classes out")

    def check_score(self, name: str, scores: Mapping[str, Score | OwnScore]) -> None:
        """Raise ValueError if the score is missing, unknown to the study, unused or of the wrong direction."""
        if "scores" not in self.reads:
            if self.score is not None:
                raise ValueError(f"selections.{name}.score: {self.selector!r} reads no score; leave it out")
            return
        if self.score is None:
            listed = f"name one of {', '.join(scores)}" if scores else "the study has none, add one under scores"
            raise ValueError(f"selections.{name}.score: {self.selector!r} reads a score; {listed}")
        require_score(self.score, scores, f"selections.{name}.score")
        high_means = card_of(self.score, scores[self.score]).high_means
        if self.cut_by == "score" and high_means != "harder" and not self._turned:
            raise ValueError(
                f"selections.{name}.score: {self.selector!r} cuts the hardest samples by it where there is no aum, and "
                f"high {self.score} means {high_means}: name a score where it means harder, such as el2n or loss"
            )
