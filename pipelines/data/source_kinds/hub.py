"""Data sets of the Hugging Face hub."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.source_kinds.contract import NamedSplits, Splits
from secateur.pipelines.data.source_kinds.files import SourceError, in_one_sentence


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
        """The splits at a commit, from the usual Hugging Face cache where they lie there; the commit."""
        import datasets

        if Path(self.name).is_dir():
            raise SourceError(
                f"{self.where}: a folder of this name is in the working directory and would be read in its place"
            )
        commit = self.stamp(base)
        with in_one_sentence(f"{self.where} at {commit}"):
            return {
                key: datasets.load_dataset(self.name, self.config, revision=commit, split=split)
                for key, split in self.splits.items()
            }, commit

    def stamp(self, base: Path) -> str:
        """The 40 digits of the commit that the revision stands for now."""
        from huggingface_hub import HfApi

        commit = self.revision or ""
        if re.fullmatch("[0-9a-f]{40}", commit):
            return commit
        wish = f"revision {self.revision or 'main'!r}"
        remedy = "offline, pin source.revision to the 40 digits of a commit that is in the Hugging Face cache"
        with in_one_sentence(f"{self.where}: cannot resolve {wish} to a commit ({remedy})"):
            return HfApi().dataset_info(self.name, revision=self.revision, timeout=30).sha or ""
