"""Export of kept pictures as a folder of image files."""

import csv
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from secateur.pipelines.exports.picture_files import picture_column, pictures
from secateur.pipelines.exports.registry import exporter
from secateur.pipelines.exports.selected import Selected
from secateur.pipelines.exports.tables import json_text
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.storage.folder_names import folder_names
from secateur.pipelines.storage.whole_files import inside

Layout = Annotated[
    Literal["classes", "metadata"],
    Field(description="a folder per class, or one folder of images with metadata.csv, which keeps the order of rows"),
]
Link = Annotated[bool, Field(description="image files are hard links to the originals, not copies")]


@exporter("")
def imagefolder(selected: Selected, path: Path, *, layout: Layout = "classes", link: Link = False) -> None:
    """Kept images as files, for `datasets`' imagefolder, torchvision and whatever reads lists of files.

    Layout `classes` is `<class>/<row>.png`, `metadata` is `images/<row>.png` and metadata.csv with file_name, row and
    label. Both have list.txt, `<file> <label>` in the order of the rows, and classes.json, name and folder of each
    label. Encoded images are copied byte for byte; arrays become PNG. Where targets are numbers or sets of labels
    there are no class folders, list.txt or classes.json, and metadata.csv has the label columns, lists as JSON.
    """
    column, classed = picture_column(selected), selected.labels_hold == "class"
    if layout == "classes" and not classed:
        raise ManifestError(
            f"layout classes needs one class per image, the labels here are {selected.labels_hold}: export with "
            "layout metadata"
        )
    names = selected.class_names if classed else {}
    folders = folder_names(names) if layout == "classes" else dict.fromkeys(names, "images")
    labels = ("label",) if classed or selected.columns is None else selected.columns.labels
    width = len(str(selected.count - 1))
    for folder in sorted({folders.get(label, "images") for label in selected.labels.tolist()}):
        inside(path, folder).mkdir()
    with ExitStack() as files:
        described = files.enter_context((path / "metadata.csv").open("w", encoding="utf-8", newline=""))
        table = csv.writer(described)
        table.writerow(["file_name", "row", *labels, *(["weight"] if selected.weights is not None else [])])
        if classed:
            listed = files.enter_context((path / "list.txt").open("w", encoding="utf-8", newline="\n"))
        for position, row, picture, record in pictures(selected, column):
            label = int(selected.labels[position])
            name = f"{folders.get(label, 'images')}/{row:0{width}d}.{picture.ending}"
            picture.place(inside(path, name), link=link)
            weight = [] if selected.weights is None else [repr(float(selected.weights[position]))]
            targets = [label] if classed else [json_text(record[each]) for each in labels]
            table.writerow([name, row, *targets, *weight])
            if classed:
                listed.write(f"{name} {label}\n")
    if layout == "classes":
        # Readers of image folders take classes from a metadata.csv where there is one, and from folders otherwise.
        (path / "metadata.csv").rename(path / "rows.csv")
    if classed:
        classes = {str(label): {"name": names[label], "folder": folders[label]} for label in sorted(names)}
        (path / "classes.json").write_text(json.dumps(classes, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
