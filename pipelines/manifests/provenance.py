"""The document of every manifest: what it counts, where the choice comes from, and the seals of its files."""

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
"""What is kept or not."""


class FrozenModel(BaseModel):
    """Frozen, and refuses keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ScoreCard(FrozenModel):
    """A score: its name and version, what high values mean, the view it was computed on, and its paper."""

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
        """The card of a scorer, under the name that a study gives its score, with the settings it was computed by."""
        told = {key: value for key, value in vars(card).items() if key in cls.model_fields}
        return cls(**{**told, "name": name or card.name}, scorer=card.name, settings=dict(settings or {}))


class Spent(FrozenModel):
    """Sums over kept rows, where a budget counts another thing than rows or rows stay together.

    `unit` is `rows` or the column of the budget, `limit` the largest sum over the kept rows, `total` their sum, and
    `whole` that over all rows. `beside` is the sum of the selection that a random choice is compared with.
    Rows of equal values of the column `group` stay together, `groups` of them.
    """

    unit: Text
    limit: float
    total: float
    whole: float
    beside: float | None = None
    group: Text | None = None
    groups: Count | None = None


class TargetCard(FrozenModel):
    """The examples of a job that a selection follows: how many rows, where they are from in words, their files, the
    `fingerprint` of their content hashes, and the column `task` whose values take turns, if one is named."""

    rows: Count
    fingerprint: Text
    origin: Text
    files: tuple[Text, ...]
    task: Text | None = None

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "TargetCard":
        """As the asset `target` of a study holds it."""
        files = tuple(name for name, _ in facts["files"])
        return cls(
            rows=facts["rows"], fingerprint=facts["fingerprint"], origin=facts["from"], files=files,
            task=facts.get("task"),
        )  # fmt: skip


class Provenance(FrozenModel):
    """Where a selection comes from.

    `keep` is the budget as it was asked for, `budget` what it comes to in samples, `spent` what it comes to otherwise.
    `columns` is the mapping by which rows of the data set are hashed (the keywords of `samples.Columns`), so that a
    manifest can find its rows again.
    `scores` are the definitions of the scores that the selection read, `target` the examples of a job that it follows.
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

    `made_for` tells what the units belong to (rows, weights, tokens, choices), so that anything else is refused:
    words, then ` xxh3:` and a hash. `payload` says what only this kind of manifest has; `files` seals every file beside
    manifest.json.
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
