"""Selections of a study without training: a selector, its score, and quotas of a column."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from secateur.pipelines.studies.own_scores import OwnScore
from secateur.pipelines.studies.rejections import checked, require
from secateur.pipelines.studies.selection import HARDNESS, check_shares, require_static
from secateur.pipelines.studies.target import OF_SOURCES, OF_TARGET, StudyTarget, check_reads
from secateur.scorers.settings import Settings
from secateur.selectors.contract import Selector, selectors

OWN_KEYS = {"score", "by", "share"}
"""Keys of a selection in YAML that are not settings of its selector."""
NAMED: Mapping[str, str] = {**HARDNESS, "mean_probability": "easier"}
OF_LABELS = ("strata", "memberships")


class OwnSelection(Settings):
    """A selector with its settings, the user's score that it reads, and quotas of a column."""

    selector: Annotated[str, Field(description="a selector; optional if the selection has its name")]
    score: Annotated[str | None, Field(description="a score of the study, if the selector reads one")] = None
    by: Annotated[str | None, Field(description="column whose values each receive a part of the budget")] = None
    share: Annotated[
        Literal["proportional", "balanced"] | dict[str, float],
        Field(description="with by: parts as large as each value's, equal parts, or a share by value"),
    ] = "proportional"
    settings: Annotated[dict[str, Any], Field(description="the selector's; YAML writes them beside selector")] = Field(
        default_factory=dict
    )

    @property
    def chosen(self) -> Selector[...]:
        """The selector."""
        return selectors()[self.selector]

    @property
    def reads(self) -> tuple[str, ...]:
        """Signals that the selector reads, without the arguments of its caller."""
        return tuple(name for name in self.chosen.reads if name not in ("ids", "budget"))

    @property
    def by_hardness(self) -> bool:
        """Whether the selector distinguishes samples by hardness."""
        return bool(set(self.reads) & HARDNESS.keys())

    def signal(self, name: str, scores: Mapping[str, OwnScore]) -> tuple[str, int]:
        """The user's score for a signal of the selector, with 1, or -1 if their directions are opposite.

        Raises ValueError if there is none, or none of that meaning.
        """
        if name == "scores" and not self.by_hardness:
            return self.score or "", 1
        wanted = NAMED.get(name, "harder")
        score = name if name in scores else self.score
        if score is None or (name not in HARDNESS and name != "scores" and name not in scores):
            there = ", ".join(scores) or "none"
            stands = " as score, whose high_means is harder or easier," if name in HARDNESS else ""
            raise ValueError(f"selector {self.selector!r} reads {name}: name a score of yours{stands} "
                             f"or add one called {name}; there are: {there}")  # fmt: skip
        means = scores[score].high_means
        if means not in ("harder", "easier"):
            raise ValueError(
                f"selector {self.selector!r} tells hard samples from easy ones, and high {score} means {means}: name a "
                "score whose high_means is harder or easier, or a selector such as top or band"
            )
        return score, 1 if means == wanted else -1

    def scores_read(self, scores: Mapping[str, OwnScore]) -> list[str]:
        """The user's scores that the selection reads."""
        named = [name for name in self.reads if name == "scores" or name in NAMED]
        return sorted({self.signal(name, scores)[0] for name in named})

    def check(
        self, where: str, scores: Mapping[str, OwnScore], given: Mapping[str, bool], target: StudyTarget | None = None
    ) -> None:
        """Raise ValueError, with key and remedy, for an unknown selector, invalid settings or a missing input; `given`
        tells whether the study has a `label` and `embeddings`."""
        require_static(self.selector, f"{where}.selector")
        self.check_inputs(where, scores, given, target)
        if untuned := [name for name in self.chosen.tunable if self.settings.get(name) is None]:
            some = ", ".join(f"{value:g}" for value in self.chosen.tunable[untuned[0]])
            raise ValueError(f"{where}.{untuned[0]}: trainings would choose it, and nothing is trained here: "
                             f"write one, such as {some}")  # fmt: skip
        checked(self.chosen.settings, self.settings, where, lambda held: self.chosen.most(2**40, held.model_dump()))
        check_shares(where, self.by, self.share)

    def check_inputs(
        self, where: str, scores: Mapping[str, OwnScore], given: Mapping[str, bool], target: StudyTarget | None
    ) -> None:
        """Raise ValueError for an input of the selector that the study lacks."""
        if self.score is not None:
            if not {"scores", *HARDNESS} & set(self.reads):
                raise ValueError(f"{where}.score: {self.selector!r} reads no score; leave it out")
            require(self.score, scores, f"{where}.score")
        elif "scores" in self.reads:
            there = ", ".join(scores) or "none; bring one under scores"
            raise ValueError(f"{where}.score: {self.selector!r} reads a score; name one of yours, there are: {there}")
        if "embeddings" in self.reads and not given["embeddings"]:
            raise ValueError(
                f"{where}: {self.selector!r} reads vectors; bring them as embeddings: {{file: vectors.npy}}"
            )
        if set(OF_LABELS) & set(self.reads) and not given["label"]:
            raise ValueError(f"{where}: {self.selector!r} reads classes; name their column as columns.label")
        unknown = [name for name in self.reads if name not in ("scores", "embeddings", *OF_LABELS, *NAMED)]
        if "gradient_places" in unknown:
            raise ValueError(
                f"{where}.selector: {self.selector!r} compares gradients of a model, and nothing is trained here: add "
                "proxy and training, or name nearest_to_target"
            )
        check_reads(where, self.selector, set(unknown), target)
        unknown = [name for name in unknown if name not in OF_TARGET | OF_SOURCES]
        if unknown:
            raise ValueError(
                f"{where}: {self.selector!r} reads {unknown[0]}, which needs a training: name another selector"
            )
        try:
            self.scores_read(scores)
        except ValueError as error:
            raise ValueError(f"{where}.score: {error}") from error
