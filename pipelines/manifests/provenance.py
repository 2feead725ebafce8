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

    name: Name
    version: Text
    high_means: Text
    view: Text
    paper: str
    summary: str = ""
    scorer: str = ""
    settings: dict[str, JsonValue] = Field(default_factory=dict)

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
    """The origin of a selection.

    `keep` is the requested budget, `budget` its value in samples, `spent` its value in other units. `columns` are the
    columns by which rows of the data set are hashed (the keywords of `samples.Columns`), so that a manifest can find
    its rows again. `scores` are the definitions of the scores that the selection read, `target` the examples of a job
    that it follows.
    """

    dataset: Text
    revision: str
    selection: Text
    selector: Text
    selector_version: Text
    settings: dict[str, JsonValue]
    keep: StrictInt | StrictFloat | dict[str, StrictInt | StrictFloat]
    budget: Annotated[StrictInt, Field(ge=1)]
    seed: StrictInt
    spent: Spent | None = None
    scores: tuple[ScoreCard, ...] = ()
    target: TargetCard | None = None
    columns: dict[str, JsonValue] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=lambda: dict(library_versions()))
    license: str | None = None
    url: str | None = None


class FileSeal(FrozenModel):
    """Size in bytes and SHA-256 of a file."""

    bytes: Count
    sha256: Sha256


Part = TypeVar("Part", bound=FrozenModel)


class Declaration(FrozenModel, Generic[Part]):
    """The document of a manifest, under the key `secateur` of manifest.json.

    `made_for` identifies the object to which the units belong (rows, weights, tokens, choices), so that any other is
    refused: words, then ` xxh3:` and a hash. `payload` is the entry of one kind of manifest; `files` seals every file
    beside manifest.json.
    """

    format: Literal[1]
    kept: StrictBool
    unit: Unit
    count: Count
    of: Count
    made_for: Text
    payload: Part
    files: dict[FileName, FileSeal]
    provenance: Provenance
    root: str

    @property
    def fingerprint(self) -> str:
        """The hash in `made_for`."""
        return self.made_for.rpartition(" xxh3:")[2]
