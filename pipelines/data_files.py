"""A split's arrays by the paths of their files, for processes other than the one that holds them."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from secateur.pipelines.files import new_file
from secateur.trainers.contract import Data


class DataFiles(BaseModel):
    """Where inputs and labels lie; whoever reads them must see the same folders."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: Path
    labels: Path
    classes: int
    model_settings: dict[str, Any]

    def load(self) -> Data:
        """The data, its inputs memory-mapped; raises ValueError where the files are not of one data set."""
        inputs = np.load(self.inputs, mmap_mode="r", allow_pickle=False)
        labels = np.load(self.labels, allow_pickle=False)
        if len(inputs) != len(labels):
            raise ValueError(f"{self.inputs} holds {len(inputs)} samples now, not {len(labels)}: it was made again")
        return Data(inputs, labels, self.classes, self.model_settings)


def files_of(data: Data, folder: Path) -> DataFiles:
    """Files of the data: inputs where they are mapped from, if they are, all else written into `folder`."""
    labels, inputs = folder / "labels.npy", mapped_from(data.inputs)
    save_array(labels, data.labels)
    if inputs is None:
        inputs = folder / "inputs.npy"
        save_array(inputs, data.inputs)
    return DataFiles(
        inputs=inputs.resolve(), labels=labels.resolve(), classes=data.classes, model_settings=dict(data.model_settings)
    )


def mapped_from(array: np.ndarray) -> Path | None:
    """The `.npy` file that an array is the memory map of, the whole of it; None where it is not one."""
    # A view of a map is a memmap as well, and names the same file; its base is the map that it was taken from.
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and str(array.filename).endswith(".npy"):
        return Path(str(array.filename))
    return None


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a `.npy` file, whole or not at all."""
    with new_file(path, overwrite=True) as partial, partial.open("wb") as file:
        np.save(file, array, allow_pickle=False)
