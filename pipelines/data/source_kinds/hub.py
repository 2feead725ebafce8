"""Data sets of the Hugging Face hub."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.source_kinds.contract import NamedSplits, Splits
from secateur.pipelines.data.source_kinds.files import SourceError, in_one_sentence

if TYPE_CHECKING:
    import datasets

OFFLINE = (
    "the hub cannot be reached ({reason}): connect, or pin the revision (source.revision of a study, --revision of "
    "init) to the 40 digits of a commit that is in the Hugging Face cache"
)
GATED = "it is gated: ask for access on its page of the hub, then log in with `hf auth login`"
UNREACHED = {"OfflineModeIsEnabled", "ConnectionError", "TransportError", "Timeout"}
MISSING = "the hub has no public data set of this name: check the spelling, or `hf auth login` where it is private"


class Hub(NamedSplits):
    """A data set of the Hugging Face hub; `revision` is a branch, a tag or, to be reproducible, a commit."""

    kind: Literal["hub"]
    name: str = Field(description="owner/name on the hub")
    config: str | None = Field(None, description="of data sets that have several")
    revision: str | None = Field(None, description="branch, tag or commit")

    @property
    def where(self) -> str:
        """The data set for a message."""
        return f"hub data set {self.name!r}"

    def read(self, columns: Columns, base: Path, cache: Path) -> tuple[Splits, str]:
        """The splits at a commit, from the usual Hugging Face cache if they are there; the commit."""
        commit = self.stamp(base)
        return {key: self.rows(split, commit) for key, split in self.splits.items()}, commit

    def rows(self, split: str, commit: str) -> "datasets.Dataset":
        """One split at a commit; SourceError with the remedy where the hub does not serve it."""
        import datasets

        with from_hub(f"{self.where} at {commit}"):
            return datasets.load_dataset(self.name, self.config, revision=commit, split=split)

    def stamp(self, base: Path) -> str:
        """The 40 digits of the commit that the revision stands for now."""
        from huggingface_hub import HfApi

        if Path(self.name).is_dir():
            raise SourceError(
                f"{self.where}: a folder of this name is in the working directory and would be read in its place"
            )
        commit = self.revision or ""
        if re.fullmatch("[0-9a-f]{40}", commit):
            return commit
        with from_hub(f"{self.where}, revision {self.revision or 'main'!r}"):
            return HfApi().dataset_info(self.name, revision=self.revision, timeout=30).sha or ""


@contextmanager
def from_hub(subject: str) -> Iterator[None]:
    """Turn failures of the hub, of its clients and of the network into a SourceError with the remedy."""
    failures: list[BaseException] = []
    with in_one_sentence(subject, lambda: remedy_of(failures)):
        try:
            yield
        except Exception as error:
            failures.append(error)
            raise


def remedy_of(failures: list[BaseException]) -> str:
    """Remedy for a failure, by the first known error in the chain of its causes; empty for others."""
    from huggingface_hub import errors

    seen: BaseException | None = failures[0]
    while seen is not None:
        if isinstance(seen, errors.GatedRepoError) or "is a gated dataset" in str(seen):
            return GATED
        if isinstance(seen, errors.RepositoryNotFoundError):
            return MISSING
        if isinstance(seen, errors.RevisionNotFoundError):
            return "the data set has no such branch, tag or commit"
        # The clients have changed their HTTP library more than once, but not the names of its errors.
        if UNREACHED & {base.__name__ for base in type(seen).__mro__}:
            return OFFLINE.format(reason=type(seen).__name__)
        seen = seen.__cause__ or seen.__context__
    return ""
