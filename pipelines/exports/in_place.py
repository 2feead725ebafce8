"""Export the positions of kept rows in data that stay where they are, without a copy of the data."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from secateur.pipelines.exports.registry import exporter
from secateur.pipelines.exports.selected import Selected
from secateur.pipelines.files.addresses import is_url
from secateur.pipelines.files.objects import waits
from secateur.pipelines.in_place.found import known_files, of_told, reader_of, view_of
from secateur.pipelines.in_place.kept import Kept
from secateur.pipelines.in_place.view import InPlace
from secateur.pipelines.manifests.document import ManifestError

Data = Annotated[
    str, Field(description="path, glob, folder or URL of the data; the files of --study if it is left out")
]
Key = Annotated[
    str, Field(description="column of the data that holds the manifest's ids; rows are found by content if empty")
]


@exporter(".parquet")
def in_place(selected: Selected, path: Path, *, data: Data = "", key: Key = "") -> None:
    """Kept rows of data that stay where they are: row numbers and seals of their files, for `secateur.in_place`.

    It writes at most 8 bytes a row and 64 kB. A file that changes afterwards is refused by name.
    """
    view = view_of(selected.manifest, data, key=key) if data else of_study(selected)
    with known_files(view.reader.data):
        view.write(path, None if waits(selected.target) else selected.target)
    if view.advice:
        selected.warn(view.advice)
    selected.progress(len(view), len(view))


def of_study(selected: Selected) -> InPlace:
    """Kept rows of the files of a study; ManifestError without a study, and for files of another format."""
    if selected.dataset is None or not selected.sources:
        raise ManifestError(
            "rows stay in the files of the data: name these (--set data=PATH), or their study (--study)"
        )
    above = (selected.folder, selected.folder.parent, Path.cwd())
    files = list[str]()
    for file in selected.located.files:
        if is_url(file.name):
            files.append(file.name)
            continue
        found = [str(path) for folder in above if (path := folder / file.name).exists()]
        if not found:
            raise ManifestError(f"there is no file {file.name}: name the data (--set data=PATH)")
        files.append(found[0])
    reader = reader_of(files[0] if len(files) == 1 else files)
    with known_files(reader.data):
        if int(reader.starts[-1]) != selected.count:
            raise ManifestError(
                f"the study's files have {selected.count} rows, and {reader.starts[-1]} are read in place: name the "
                "data (--set data=PATH)"
            )
        kept = Kept.at(selected.rows, reader.starts, selected.weights, of_told(selected.manifest))
        return InPlace.of(reader, kept)
