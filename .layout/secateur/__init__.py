"""Secateur prunes training sets: scores, selections, training and an honest comparison with random.

`select`, `score`, `scores_of`, `study`, `Manifest` and `samplers` are all of the front door; each is loaded when it is
first used, so that `import secateur` takes no time.
"""

from importlib import import_module

_DOOR = {"Manifest": "manifests.manifest", "select": "front_door.select"}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("secateur")
    if name not in _DOOR:
        raise AttributeError(f"module 'secateur' has no attribute {name!r}; there are: {', '.join(__dir__())}")
    value = getattr(import_module(f"secateur.pipelines.{_DOOR[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_DOOR, "__version__"])
