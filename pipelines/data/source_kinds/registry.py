"""Every kind of source by name, and the type of a study's `source`: one of them, by its `kind`."""

from collections.abc import Mapping
from functools import cache, reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from secateur.pipelines.data.source_kinds.contract import SourceKind
from secateur.scorers.contract import discover


@cache
def source_kinds() -> Mapping[str, type[SourceKind]]:
    """Kinds of sources, each declared in the file of its name."""
    import secateur.pipelines.data.source_kinds as room

    return discover(room, SourceKind)


if TYPE_CHECKING:
    Source = SourceKind
else:
    Source = Annotated[reduce(or_, source_kinds().values()), Field(discriminator="kind")]
