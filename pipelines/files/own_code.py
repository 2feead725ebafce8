"""Find the code that a study names by `module:name` without importing any of it.

It is the file of the module, for a package all files `.py` of its top-level folder, and likewise the modules that these
import, at any depth. Installed packages count by their versions instead of their files.
"""

import ast
import os
import site
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib import metadata
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import xxhash

from secateur.pipelines.files.contents import content_of, digest_of, files_below
from secateur.scorers.lazy import look_in_working_folder

OWN = "secateur"
"""This package, whose version is part of every result already."""

_seen: dict[Path, tuple[ModuleSpec | None, str]] = {}
"""Content of code files at the last look, and the specification under which each was loaded then, if it was: a new
import of a module makes another.
"""


def code_content(module: str) -> str:
    """Digest of the code of a module, 32 hexadecimal digits; raises OSError for a file that cannot be read."""
    files, versions = code_of(module)
    return xxhash.xxh3_128_hexdigest(f"{digest_of(sorted(files.items()))} {sorted(versions.items())}".encode())


def code_of(module: str) -> tuple[dict[str, Path], dict[str, str]]:
    """Files of a module and of its imports, by their names from their import folder, and the versions of installed
    packages among them. Both are empty for a module that does not exist.
    """
    look_in_working_folder()
    files, versions, seen, todo = dict[str, Path](), dict[str, str](), {OWN}, [module.partition(".")[0]]
    while todo:
        if (top := todo.pop()) in seen or not top:
            continue
        seen.add(top)
        own, installed = files_of(top)
        files |= own
        if installed and (version := version_of(top)):
            versions[top] = version
        for name, path in own.items():
            todo += sorted(imports_in(path, content_of(path))) if name.endswith(".py") else []
    return files, versions


def refuse_changed(files: Iterable[Path]) -> None:
    """Raise ValueError for a file of code that changed after this process loaded it: results of the old code would be
    stored as those of the new one. Remembers the files' present content.
    """
    loaded = {file: vars(each).get("__spec__") for each in list(sys.modules.values()) if (file := file_of(each))}
    for path in files:
        spec, content = loaded.get(str(path)), content_of(path)
        before, known = _seen.get(path, (None, content))
        if spec is not None and (before is None or before is spec) and known != content:
            raise ValueError(
                f"{path} has changed since this process loaded it, so it would run other code than the file has: "
                "start a new process (in a notebook, restart the kernel)"
            )
        _seen[path] = (spec, content)


def file_of(module: ModuleType) -> str | None:
    """File of a loaded module, if it has one; does not trigger lazy imports."""
    found = vars(module).get("__file__") if isinstance(module, ModuleType) else None
    return found if isinstance(found, str) else None


def files_of(top: str) -> tuple[dict[str, Path], bool]:
    """Files of a top-level module in a folder of the user's, by name, and whether it is installed instead."""
    try:
        spec = find_spec(top)  # a name without a dot triggers no import
    except (ImportError, ValueError, AttributeError):
        spec = None
    if spec is None:
        return {}, False
    if spec.submodule_search_locations is None:
        origin = Path(spec.origin or "")
        places, found = [origin], {origin.name: origin} if origin.is_file() else {}
    else:
        places = [Path(folder) for folder in spec.submodule_search_locations if not is_installed(Path(folder))]
        inside = [(folder.parent, path) for folder in places for _, path in files_below(folder, ".py")]
        found = {path.relative_to(parent).as_posix(): path for parent, path in inside}
    installed = not places or all(map(is_installed, places))
    return {} if installed else found, installed


def is_installed(path: Path) -> bool:
    """Whether a path lies in a folder of Python or of an installer."""
    return any(Path(os.path.realpath(path)).is_relative_to(folder) for folder in installed_folders())


@cache
def installed_folders() -> tuple[str, ...]:
    """Folders of the standard library and of installed packages."""
    named = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    every = [*named, *site.getsitepackages(), site.getusersitepackages()]
    return tuple(sorted({os.path.realpath(folder) for folder in every if folder}))


@cache
def version_of(top: str) -> str:
    """Version of the installed package of a module; empty for one of the standard library."""
    if top in sys.stdlib_module_names:
        return ""
    try:
        return metadata.version(top)
    except metadata.PackageNotFoundError:
        names = sorted(set(metadata.packages_distributions().get(top, ())))  # takes a second
        return ", ".join(f"{name} {metadata.version(name)}" for name in names)


@lru_cache(maxsize=4096)
def imports_in(path: Path, content: str) -> frozenset[str]:
    """Top-level names that a file of this content imports, anywhere in it; empty for a file that is not Python.

    Relative imports stay in a package, whose files all count.
    """
    try:
        nodes: Iterable[ast.AST] = ast.walk(ast.parse(path.read_bytes()))
    except (SyntaxError, ValueError):  # the import itself reports it
        nodes = ()
    names = set[str]()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return frozenset(name.partition(".")[0] for name in names)
