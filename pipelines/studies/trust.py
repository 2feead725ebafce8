"""The user's trusted folders of studies: a study may name Python code, and a run of it executes that code.

Studies that ship and studies below the working folder are trusted. Every other folder is rejected until
`secateur trust FOLDER` has recorded it in a file of the user's own, which no folder of studies can bring along.
"""

import json
from pathlib import Path
from shlex import quote

import typer

from secateur.pipelines.files.whole_files import write_bytes
from secateur.pipelines.studies.folders import SHIPPED

TRUST = "secateur trust"


def record() -> Path:
    """The file that lists the trusted folders, in the user's settings folder."""
    return Path(typer.get_app_dir("secateur")) / "trusted_folders.json"


def recorded() -> list[Path]:
    """Folders that `secateur trust` recorded, absolute, in their order; raises ValueError for a damaged record."""
    if not record().exists():
        return []
    try:
        folders = json.loads(record().read_text(encoding="utf-8"))
    except ValueError:
        folders = None
    if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
        raise ValueError(f"{record()} is no JSON list of folders: mend or delete it, and trust your folders again")
    return [Path(folder) for folder in folders]


def trust(folder: Path, *, remove: bool = False) -> list[Path]:
    """Record a folder, with its subfolders, or remove it from the record; returns the folders recorded afterwards.

    Raises ValueError for a path that is no folder, and for the removal of a folder that is not recorded.
    """
    path, folders = folder.resolve(), recorded()
    if remove and (lost := folder.absolute()) in folders:  # a link may have replaced the folder since
        path = lost
    if remove and path not in folders:
        raise ValueError(f"{path} is not recorded as trusted; recorded: {', '.join(map(str, folders)) or 'none'}")
    if not remove and not path.is_dir():
        raise ValueError(f"{path} is no folder")
    after = sorted({*folders} - {path} if remove else {*folders, path})
    write_bytes(record(), (json.dumps([str(each) for each in after], indent=2) + "\n").encode(), overwrite=True)
    return after


def is_trusted(folder: Path) -> bool:
    """Whether the folder, with links resolved, is trusted."""
    known = (SHIPPED.resolve(), Path.cwd().resolve(), *recorded())
    return any(folder.resolve().is_relative_to(each) for each in known)


def refuse_untrusted(file: Path) -> None:
    """Raise ValueError, with the command to trust it, if the folder of a study's file is not trusted.

    A link is trusted if both its own folder and that of its target are.
    """
    for folder in (file.parent, file.resolve().parent):
        if not is_trusted(folder):
            raise ValueError(
                f"{file}: {folder} is not below the working folder, and a study may name code that a run executes; "
                f"if you trust whoever writes there: {TRUST} {quote(str(folder.resolve()))}"
            )
