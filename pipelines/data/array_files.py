"""Arrays in files that `numpy.save` wrote, as a user names them."""

from pathlib import Path

import numpy as np

from secateur.pipelines.data.source_kinds.files import SourceError

ENDING = ".npy"


def array_at(path: str | Path, option: str) -> np.ndarray:
    """The array of a file, mapped into memory; SourceError, which begins with the option's name, for any other file."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise SourceError(f"{option}: there is no file {path}")
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SourceError(no_array(path, option)) from error
    if not isinstance(found, np.ndarray):  # an archive of several
        found.close()
        raise SourceError(no_array(path, option))
    return found


def no_array(path: str | Path, option: str) -> str:
    """The message about a file that holds no array."""
    return f"{option}: {path} is no {ENDING} file of numbers: save it by numpy.save(file, array)"
