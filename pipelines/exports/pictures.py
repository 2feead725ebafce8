"""Export of kept pictures as a folder of image files."""

import csv
import json
from collections.abc import Mapping, Set
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from secateur.pipelines.exports.picture_files import Picture, picture_column, pictures
from secateur.pipelines.exports.registry import exporter
from secateur.pipelines.exports.selected import Selected
from secateur.pipelines.exports.tables import json_text, label_texts
from secateur.pipelines.files.whole_files import inside
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.storage.folder_names import fold, folder_names

Layout = Annotated[
    Literal["classes", "metadata"],
    Field(description="a folder per class, or one folder of images with metadata.csv, which keeps the order of rows"),
]
LabelNumbers = Annotated[
    bool, Field(description="metadata.csv has the numbers of the classes, named in classes.json, not the user's labels")
]
Link = Annotated[bool, Field(description="image files are hard links to the originals, not copies")]


@exporter("")
def imagefolder(
    selected: Selected,
    path: Path,
    *,
    layout: Layout = "classes",
    link: Link = False,
    label_numbers: LabelNumbers = False,
) -> None:
    """Kept images as files, for `datasets`' imagefolder, torchvision and other readers of lists of files.

    Layout `classes` is `<class>/<file>`, `metadata` is `images/<file>` and metadata.csv with file_name, row, label and
    the other columns of the data set. Files keep their names; those without one, or with one that readers of folders
    would misread, are named by their row. Both have list.txt, `<file> <number of the class>` in the order of the rows,
    and classes.json, name and folder of each number. Encoded images are copied byte for byte; arrays become PNG. Where
    targets are numbers or sets of labels there are no class folders, list.txt or classes.json, and metadata.csv has the
    label columns, lists as JSON.
    """
    column, classed = picture_column(selected), selected.labels_hold == "class"
    if layout == "classes" and not classed:
        raise ManifestError(
            f"layout classes needs one class per image, the labels here are {selected.labels_hold}: export with "
            "layout metadata"
        )
    names = selected.class_names if classed else {}
    folders = folder_names(names) if layout == "classes" else dict.fromkeys(names, "images")
    if layout == "classes":
        warn_of_numbers(selected, names, folders)
    labels = ("label",) if classed or selected.columns is None else selected.columns.labels
    for folder in sorted({folders.get(label, "images") for label in selected.labels.tolist()}):
        inside(path, folder).mkdir()
    given, taken, several = label_texts(selected), set[str](), selected.located.several
    with ExitStack() as files:
        described = files.enter_context((path / "metadata.csv").open("w", encoding="utf-8", newline=""))
        table = csv.writer(described)
        weighted = ["weight"] if selected.weights is not None else []
        own_names = ["file_name", *(["file"] if several else []), "row", *labels, *weighted]
        more = other_columns(selected, {column, *own_names})
        table.writerow([*own_names, *more])
        if classed:
            listed = files.enter_context((path / "list.txt").open("w", encoding="utf-8", newline="\n"))
        for position, picture, record in pictures(selected, column):
            label = int(selected.labels[position])
            name = file_name(folders.get(label, "images"), picture, selected.located.key(position), taken)
            picture.place(inside(path, name), link=link)
            file, row = int(selected.located.file[position]), int(selected.located.row[position])
            place = [selected.located.files[file].name, row] if several else [row]
            weight = [] if selected.weights is None else [repr(float(selected.weights[position]))]
            own = label if label_numbers else given(record, label)
            targets = [own] if classed else [json_text(record[each]) for each in labels]
            table.writerow([name, *place, *targets, *weight, *map(cell_text, (record[each] for each in more))])
            if classed:
                listed.write(f"{name} {label}\n")
    if layout == "classes":
        # Readers of image folders take classes from a metadata.csv if there is one, and from folders otherwise.
        (path / "metadata.csv").rename(path / "rows.csv")
    if classed:
        classes = {str(label): {"name": names[label], "folder": folders[label]} for label in sorted(names)}
        (path / "classes.json").write_text(json.dumps(classes, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def other_columns(selected: Selected, read: Set[str]) -> list[str]:
    """Columns of the data set that are neither in `read` nor labels."""
    labels = selected.columns.labels if selected.columns else ()
    return [name for name in selected.data.column_names if name not in read and name not in labels]


def cell_text(value: Any) -> Any:
    """A value as a field of a CSV: lists and objects as JSON."""
    return json_text(value) if isinstance(value, list | dict) else value


def file_name(folder: str, picture: Picture, key: str, taken: set[str]) -> str:
    """The path of a picture below the export: its own name, with its row where another one has the name already."""
    name = picture.file_name or f"{key}.{picture.ending}"
    if fold(f"{folder}/{name}") in taken:
        name = f"{Path(name).stem}-{key}{Path(name).suffix}"
    taken.add(fold(f"{folder}/{name}"))
    return f"{folder}/{name}"


def warn_of_numbers(selected: Selected, names: Mapping[int, str | None], folders: Mapping[int, str]) -> None:
    """Warn where readers, which number classes by the order of their folders, give other numbers than the study."""
    said = (
        "readers that number classes by their folders give {} than the study: take the numbers from classes.json, or "
        "export with layout metadata"
    )
    ordered = sorted(names, key=lambda label: folders[label])
    if ordered != sorted(names):
        order = ", ".join(folders[label] for label in ordered[:5]) + (", …" if len(ordered) > 5 else "")
        selected.warn(f"the folders of the classes sort as {order}: {said.format('other numbers')}")
        return
    kept = set(selected.labels.tolist())
    empty = [label for label in sorted(names) if label not in kept and label < max(kept, default=-1)]
    if empty:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        told = said.format("later classes lower numbers")
        selected.warn(
            f"nothing is kept of class {names[empty[0]] or str(empty[0])!r}{more}, which has no folder: {told}"
        )
