"""The document of every manifest: its unit counts, the origin of the choice, and the seals of its files."""

from collections.abc import Mapping
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictBool, StrictFloat, StrictInt, StringConstraints

from secateur.pipelines.storage.versions import library_versions
from secateur.scorers.contract import Card
from secateur.scorers.contract import Unit as ScoredUnit

Text = Annotated[str, StringConstraints(min_length=1, max_length=10_000)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=200)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[StrictInt, Field(ge=0, lt=2**62)]
FileName = Annotated[str, StringConstraints(pattern=r"^[^/\\.\x00-\x1f][^\\\x00-\x1f]*$", max_length=500)]
Unit = Literal[ScoredUnit, "choice"]
"""Units that a manifest keeps or drops."""


class FrozenModel(BaseModel):
    """A frozen model that forbids unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ScoreCard(FrozenModel):
    """A score: its name and version, the meaning of high values, the view that it was computed on, and its paper."""

    name: Name = Field(description="name of the score in its study")
    version: Text = Field(description="version of the scorer, or of the user's file")
    high_means: Text = Field(description="meaning of high values, such as `harder`")
    view: Text = Field(description="data that the score was computed on")
    paper: str = Field(description="paper or other source of the definition")
    summary: str = Field(default="", description="the definition in a sentence")
    scorer: str = Field(default="", description="name of the scorer; empty for a score of the user's")
    settings: dict[str, JsonValue] = Field(default_factory=dict, description="settings of the computation")

    @classmethod
    def of(cls, card: Card, *, name: str = "", settings: Mapping[str, JsonValue] | None = None) -> "ScoreCard":
        """The card of a scorer, under a study's name for its score, with the settings of the computation."""
        told = {key: value for key, value in vars(card).items() if key in cls.model_fields}
        return cls(**{**told, "name": name or card.name}, scorer=card.name, settings=dict(settings or {}))


class Spent(FrozenModel):
    """Sums over kept rows, for a budget of another unit than rows, or with groups that stay together.

    `unit` is `rows` or the column of the budget, `limit` the largest allowed sum over the kept rows, `total` their sum,
    and `whole` the sum over all rows. `beside` is the sum of the selection that a random choice is compared with. Rows
    of equal values of the column `group` stay together, `groups` of them.
    """

    unit: Text
    limit: float
    total: float
    whole: float
    beside: float | None = None
    group: Text | None = None
    groups: Count | None = None


class TargetCard(FrozenModel):
    """The examples of a job that a selection follows: their number, their origin in words, their files, the
    `fingerprint` of their content hashes, and the column `task`, if any, whose values take turns.
    """

    rows: Count
    fingerprint: Text
    origin: Text
    files: tuple[Text, ...]
    task: Text | None = None

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "TargetCard":
        """The card from a study's asset `target`."""
        files = tuple(name for name, _ in facts["files"])
        return cls(
            rows=facts["rows"], fingerprint=facts["fingerprint"], origin=facts["from"], files=files,
            task=facts.get("task"),
        )  # fmt: skip


class Provenance(FrozenModel):
    """The origin of a selection."""

    dataset: Text = Field(description="name of the study, or of the data")
    revision: str = Field(description="identity of the source's content")
    selection: Text = Field(description="name of the selection in its study")
    selector: Text = Field(description="name of the selector")
    selector_version: Text = Field(description="version of the selector, and of what it calls")
    settings: dict[str, JsonValue] = Field(description="settings of the selector")
    keep: StrictInt | StrictFloat | dict[str, StrictInt | StrictFloat] = Field(
        description="requested budget: a share, a number, or one of these by its unit"
    )
    budget: Annotated[StrictInt, Field(ge=1, description="the budget in units of the manifest")]
    seed: StrictInt = Field(description="seed of every draw")
    spent: Spent | None = Field(default=None, description="the budget in another unit than rows")
    scores: tuple[ScoreCard, ...] = Field(default=(), description="definitions of the scores that the selection read")
    target: TargetCard | None = Field(default=None, description="examples of a job that the selection follows")
    columns: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="columns by which rows are hashed (the keywords of `samples.Columns`): they find the rows again",
    )
    versions: dict[str, str] = Field(
        default_factory=lambda: dict(library_versions()),
        description="versions of Python and of libraries; by default those in use",
    )
    license: str | None = Field(default=None, description="licence of the data")
    url: str | None = Field(default=None, description="address of the data")


class FileSeal(FrozenModel):
    """Size in bytes and SHA-256 of a file."""

    bytes: Count
    sha256: Sha256


Part = TypeVar("Part", bound=FrozenModel)


class Declaration(FrozenModel, Generic[Part]):
    """The document of a manifest, under the key `secateur` of manifest.json."""

    format: Literal[1] = Field(description="version of the format")
    kept: StrictBool = Field(description="whether the manifest lists kept units; true in this format")
    unit: Unit = Field(description="unit of the selection")
    count: Count = Field(description="number of kept units")
    of: Count = Field(description="number of all units")
    made_for: Text = Field(
        description="identity of the object to which the units belong (rows, weights, tokens, choices): words, then "
        "` xxh3:` and a hash; any other object is refused"
    )
    payload: Part = Field(description="entry of the kind of manifest, such as `EpochsPart`")
    files: dict[FileName, FileSeal] = Field(description="size and SHA-256 of every file beside manifest.json")
    provenance: Provenance = Field(description="origin of the selection")
    root: str = Field(description="SHA-256 of the whole document without this key")

    @property
    def fingerprint(self) -> str:
        """The hash in `made_for`."""
        return self.made_for.rpartition(" xxh3:")[2]
