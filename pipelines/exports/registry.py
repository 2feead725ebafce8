"""Export formats of a manifest's selection: one decorated function per format, in a file of this folder.

A format's function gets the kept rows and a path to write to: a file, or an empty folder where its suffix is "". Its
keyword-only parameters are the format's settings. With a data set the rows are those of that data set, found by
content hash if they moved.
"""

import importlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from secateur.pipelines.exports.selected import Selected, SourceRows, select
from secateur.pipelines.files.addresses import is_url, refuse_secret, shown
from secateur.pipelines.files.objects import RECEIPT as RECEIPT
from secateur.pipelines.files.objects import Upload
from secateur.pipelines.files.partial_names import remove_leftovers
from secateur.pipelines.files.whole_files import OVERWRITE, new_file, new_folder, refuse_target, write_bytes
from secateur.pipelines.manifests.document import ManifestError, explained, shortened
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.rows import HashRows
from secateur.pipelines.storage.versions import library_versions
from secateur.pipelines.studies.rejections import checked, require
from secateur.scorers.contract import modules_of, settings_of, summary_of
from secateur.trainers.contract import Progress

if TYPE_CHECKING:
    import datasets

LARGEST_RECEIPT = 2**20

Write = TypeVar("Write", bound=Callable[..., None])


@dataclass(frozen=True)
class Exporter:
    """A format: its name, the ending of its file ("" for a folder), a sentence, its settings, and its writer.

    `several` is the ending where the rows lie in several files.
    """

    name: str
    suffix: str
    summary: str
    settings: type[BaseModel]
    write: Callable[..., None]
    several: str

    def suffix_for(self, manifest: Manifest) -> str:
        """The ending of a manifest's export: that for several files where its rows lie in several."""
        return self.several if len(manifest.selection.origin.files) > 1 else self.suffix


_DECLARED: dict[str, Exporter] = {}


def exporter(suffix: str, several: str | None = None) -> Callable[[Write], Write]:
    """Declare a format, named like its function; `several` is the ending where rows lie in several files."""

    def declare(write: Write) -> Write:
        name = write.__name__
        _DECLARED[name] = Exporter(name, suffix, summary_of(write), settings_of(write), write, several or suffix)
        return write

    return declare


@cache
def exporters() -> Mapping[str, Exporter]:
    """Every format by name."""
    import secateur.pipelines.exports

    for module in modules_of(secateur.pipelines.exports):
        importlib.import_module(module)
    return dict(sorted(_DECLARED.items()))


def export(
    manifest: Manifest | Path | str,
    to: str,
    target: Path | str | None = None,
    *,
    dataset: "datasets.Dataset | SourceRows | None" = None,
    hash_rows: "HashRows | Mapping[str, Any] | None" = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
) -> Path | str:
    """Write a manifest's selection in the format `to` and return the file or folder.

    The path is `target`, or `<manifest folder>_<format><suffix>` beside the manifest; the export appears whole or not
    at all, and leftovers of killed exports beside it are removed. For a URL (`s3://…`) a file is written here first and
    then stored; a folder's `secateur.json` comes last, so that a folder without it is incomplete. `dataset` and
    `hash_rows` are as for `Manifest.apply`; `dataset` may also be the result of `training_rows`. `settings` are those
    of the format; `progress` gets rows done and rows in all, `warn` gets notes for readers of the export (by default a
    Python warning).

    Raises ManifestError for an unknown format or setting, a manifest that does not verify, a data set that it was not
    made from, samples that the format cannot hold, a target inside or around the manifest's folder or the data's, one
    that exists without `overwrite`, and with it a folder that is not our export.
    """
    if isinstance(target, str) and is_url(target):
        with explained(f"cannot export to {shown(target)}"):
            refuse_secret(target)
            with Upload(target, overwrite=overwrite) as path:
                how: dict[str, Any] = {"settings": settings, "progress": progress, "warn": warn}
                export(manifest, to, path, dataset=dataset, hash_rows=hash_rows, **how)
        return target
    with explained(f"cannot export to {shortened(target)}" if target is not None else "cannot export"):
        require(to, exporters(), "format")
        chosen = exporters()[to]
        checked(chosen.settings, settings or {}, f"format {to}")
        manifest = manifest if isinstance(manifest, Manifest) else Manifest.load(manifest)
        path = target_of(manifest, chosen, target)
        refuse_unsafe(path, manifest, chosen, dataset, overwrite=overwrite)
        filled = chosen.settings(**(settings or {})).model_dump()
        selected = select(
            manifest, dataset, hash_rows, path, progress, warn or (lambda text: warnings.warn(text, stacklevel=2))
        )
        remove_leftovers(path)
        if chosen.suffix:
            with new_file(path, overwrite=overwrite) as partial:
                chosen.write(selected, partial, **filled)
                for ending, content in selected.beside.items():
                    write_bytes(path.with_name(path.name + ending), content.encode(), overwrite=overwrite)
        else:
            with new_folder(path, overwrite=overwrite) as partial:
                chosen.write(selected, partial, **filled)
                (partial / RECEIPT).write_text(receipt(selected, chosen, filled), encoding="utf-8")
    return path


def target_of(manifest: Manifest, chosen: Exporter, target: Path | str | None) -> Path:
    """The path of the export."""
    if target is not None:
        # "." and "a/.." get names once they are absolute.
        return Path(target) if Path(target).name not in ("", "..") else Path(os.path.abspath(target))
    folder = manifest.path.resolve()
    return folder.with_name(f"{folder.name}_{chosen.name}{chosen.suffix_for(manifest)}")


def refuse_unsafe(
    path: Path, manifest: Manifest, chosen: Exporter, given: "datasets.Dataset | SourceRows | None", *, overwrite: bool
) -> None:
    """Raise ManifestError where writing to a path would replace the manifest, the data or other files than ours."""
    refuse_target(path, overwrite=overwrite, option=OVERWRITE)
    place, folder = path.resolve(), manifest.path.resolve()
    if place.is_relative_to(folder):
        raise ManifestError(f"{path} is inside the manifest {manifest.path}, which holds its sealed files alone")
    data = given.data if isinstance(given, SourceRows) else given
    sources = [Path(cached["filename"]).resolve() for cached in data.cache_files] if data is not None else []
    sources += [source.resolve() for source in given.sources] if isinstance(given, SourceRows) else []
    if around := next((source for source in [folder, *sources] if source.is_relative_to(place)), None):
        raise ManifestError(f"{path} holds {around}, which is read here; name another target")
    if chosen.suffix or not path.is_dir() or path.is_symlink() or not any(path.iterdir()):
        return
    if not is_export(path):
        raise ManifestError(
            f"{path} is a folder that is no export of ours ({RECEIPT} is not there); name another target"
        )


def is_export(folder: Path) -> bool:
    """Whether a folder holds an export, by its receipt."""
    path = folder / RECEIPT
    if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST_RECEIPT:
        return False
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("format") in exporters()


def receipt(selected: Selected, chosen: Exporter, settings: Mapping[str, Any]) -> str:
    """The description of an exported folder, as JSON; it does not depend on the time or place of writing."""
    declared = selected.manifest.declaration
    content = {
        "format": chosen.name,
        "settings": dict(settings),
        "dataset": declared.provenance.dataset,
        "selection": declared.provenance.selection,
        "seed": declared.provenance.seed,
        "rows": len(selected.rows),
        "of": selected.count,
        "manifest": declared.root,
        "version": library_versions()["secateur"],
    }
    return json.dumps(content, indent=2, ensure_ascii=True) + "\n"
