"""Secateur prunes training sets: scores, selections, training and an honest comparison with random.

`select`, `audit`, `score`, `scores_of`, `study`, `Manifest` and `samplers` are all of the front door; each is loaded
when it is first used, so that `import secateur` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from secateur.pipelines.front_door import samplers as samplers
    from secateur.pipelines.front_door.audit import audit as audit
    from secateur.pipelines.front_door.in_place import in_place as in_place
    from secateur.pipelines.front_door.score import score as score
    from secateur.pipelines.front_door.scores_of import scores_of as scores_of
    from secateur.pipelines.front_door.select import select as select
    from secateur.pipelines.front_door.study import study as study
    from secateur.pipelines.manifests.manifest import Manifest as Manifest

    __version__: str

_DOOR = {
    "Manifest": "manifests.manifest",
    "audit": "front_door.audit",
    "in_place": "front_door.in_place",
    "samplers": "front_door.samplers",
    "score": "front_door.score",
    "scores_of": "front_door.scores_of",
    "select": "front_door.select",
    "study": "front_door.study",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("secateur")
    if name not in _DOOR:
        raise AttributeError(f"module 'secateur' has no attribute {name!r}; there are: {', '.join(__dir__())}")
    module = import_module(f"secateur.pipelines.{_DOOR[name]}")
    value: object = module if name == "samplers" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_DOOR, "__version__"])
