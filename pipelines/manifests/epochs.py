"""Samples of each epoch of a training, to replay a selection in training such as RS2 or InfoBatch.

`kept.parquet` lists the samples of all epochs together, like a manifest of rows. `epochs.parquet` lists the rows of
each epoch in the order of training, with the weights of their losses: see `storage/epoch_table.py`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, StrictBool, StrictInt

from secateur.pipelines.data.lazy import pl
from secateur.pipelines.data.stored_targets import strata_in
from secateur.pipelines.manifests import croissant, kept_rows
from secateur.pipelines.manifests.described_rows import described
from secateur.pipelines.manifests.document import ROWS, ManifestError
from secateur.pipelines.manifests.origin import Origin
from secateur.pipelines.manifests.payload import Payload, refuse_files, refuse_settings
from secateur.pipelines.manifests.provenance import Declaration, Unit
from secateur.pipelines.manifests.rows import Rows, RowsPart, check_rows
from secateur.pipelines.storage.epoch_table import EPOCHS, EpochTable, mask_shown, sizes_of
from secateur.trainers.loop.shown_epochs import Shown

MOST = 2**60
"""Largest number of records of all epochs together."""


class EpochsPart(RowsPart):
    """Entry of a manifest of a training's epochs: that of the rows of all epochs, and the division into epochs.

    An epoch's last batch has the rest; a single remaining sample joins the batch before it.
    """

    kind: Literal["epochs"] = Field(default="epochs", description="the kind of manifest")  # type: ignore[assignment]
    sizes: Annotated[
        tuple[Annotated[StrictInt, Field(ge=1)], ...],
        Field(min_length=1, description="number of samples of each epoch"),
    ]
    batch_size: Annotated[StrictInt, Field(ge=1, description="samples of a batch")]
    weighted: StrictBool = Field(description="whether losses were weighted")


@dataclass(frozen=True, eq=False)
class Epochs(Payload):
    """The epochs of one training: `rows` are the samples of all of them together, `file` holds the epochs."""

    Part = EpochsPart
    units: ClassVar[tuple[Unit, ...]] = ("sample",)

    rows: Rows
    file: EpochTable
    batch_size: int

    @classmethod
    def recorded(
        cls,
        samples: pl.DataFrame,
        path: Path,
        *,
        batch_size: int,
        scores: Mapping[str, np.ndarray] | None = None,
        label_names: Sequence[str] | None = None,
        origin: Origin | None = None,
    ) -> Epochs:
        """The epochs of a training on `samples`, in a file of `write_epochs`; other arguments as in `Rows.chosen`."""
        sizes, weighted = sizes_of(path)
        keep = mask_shown(path, samples.height)
        rows = Rows.chosen(samples, keep, scores=scores, label_names=label_names, origin=origin)
        return cls(rows, EpochTable(path, sizes, samples.height, weighted), batch_size)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples of each epoch."""
        return self.file.sizes

    @property
    def count(self) -> int:
        return self.rows.count

    @property
    def size(self) -> int:
        return self.rows.size

    @property
    def made_for(self) -> str:
        return self.rows.made_for

    @property
    def part(self) -> EpochsPart:
        told = {**dict(self.rows.part), "kind": "epochs"}
        return EpochsPart(**told, sizes=self.sizes, batch_size=self.batch_size, weighted=self.file.weighted)

    def write(self, folder: Path) -> None:
        """See `Payload.write`."""
        self.rows.write(folder)
        shutil.copyfile(self.file.path, folder / EPOCHS)

    @classmethod
    def check_count(cls, declaration: Declaration[Any]) -> None:
        """The budget is that of an epoch: the samples of the longest."""
        longest, budget = max(declaration.payload.sizes), declaration.provenance.budget
        if longest != budget:
            raise ManifestError(f"its longest epoch has {longest} samples, but the budget is {budget}")

    @classmethod
    def check(cls, declaration: Declaration[Any]) -> None:
        """See `Payload.check`."""
        refuse_files(declaration, ROWS, EPOCHS)
        check_rows(declaration)
        sizes = declaration.payload.sizes
        # An epoch that spans two passes of RS2 may show a sample twice.
        if max(sizes) > 2 * declaration.count or sum(sizes) > MOST:
            raise ManifestError(f"its longest epoch has {max(sizes)} samples of {declaration.count} that are shown")
        if sum(sizes) < declaration.count:
            raise ManifestError(f"its epochs have {sum(sizes)} samples, too few to show {declaration.count}")

    @classmethod
    def read(cls, folder: Path, declaration: Declaration[Any], *, verify: bool) -> Epochs:
        """See `Payload.read`."""
        part = declaration.payload
        rows = Rows.read(folder, declaration, verify=verify)
        file = EpochTable(folder / EPOCHS, part.sizes, declaration.of, part.weighted)
        if verify and not file.shown(rows.training_rows).all():
            raise ManifestError(f"{ROWS} lists samples that no epoch shows")
        return cls(rows, file, part.batch_size)

    @classmethod
    def described(cls, declaration: Declaration[Any]) -> dict[str, Any]:
        """See `Payload.described`."""
        seal = declaration.files[EPOCHS]
        meanings = {
            "epoch": "Epoch, counted from 0.",
            "row": "Number of the sample among the training samples, counted from 0.",
        }
        if declaration.payload.weighted:
            meanings["weight"] = "Factor of the sample's loss in that epoch."
        kinds = {"epoch": ("cr:Int64",), "row": ("cr:Int64",), "weight": kept_rows.croissant_types("weight")}
        columns = [croissant.Column(name, kinds[name], meaning) for name, meaning in meanings.items()]
        file = croissant.ParquetFile(EPOCHS, seal.bytes, seal.sha256)
        record = "One record per sample that an epoch showed, in the order of training."
        further = croissant.Records("epochs", record, file, columns)
        return described(declaration, "those that some epoch of a training SHOWED", further)

    def shown(self, epoch: int) -> Shown:
        """The training samples of an epoch, from 0, in the order of training, with the weights of their losses.

        Batches are slices of `batch_size` of them. Raises ManifestError for an epoch that does not exist.
        """
        last = len(self.sizes) - 1
        if isinstance(epoch, bool) or not isinstance(epoch, int | np.integer) or not 0 <= epoch <= last:
            raise ManifestError(f"there is no epoch {epoch}: its epochs are 0 … {last}")
        return self.file.read(int(epoch))

    def at(self, epoch: int) -> Rows:
        """The samples of an epoch as kept rows, each once; `order` is the order in which the epoch showed them."""
        shown = self.shown(epoch)
        kept, first = np.unique(shown.rows, return_index=True)
        places = np.searchsorted(self.rows.training_rows, kept)
        table = self.rows.table[places]
        if shown.weights is not None:
            table = table.with_columns(pl.Series("weight", shown.weights[first]))
        counts = dict(zip(*map(np.ndarray.tolist, np.unique(strata_in(table), return_counts=True)), strict=True))
        classes = tuple(each.model_copy(update={"after": counts.get(each.label, 0)}) for each in self.rows.classes)
        return replace(self.rows, held=table, classes=classes, order=np.searchsorted(kept, shown.rows))

    def apply(self, target: Any, output: Path | None, *, epoch: int | None = None, **settings: Any) -> Any:
        """See `Manifest.apply`."""
        if epoch is None:
            last = len(self.sizes) - 1
            raise ManifestError(f"it keeps other samples in each epoch: say which, epoch=0 … epoch={last} (--epoch)")
        refuse_settings(self.unit, settings, "hash_rows", "folder")
        return self.at(epoch).apply(target, output, **settings)
