"""Features of numbers or booleans with a few stray texts, which turn the whole column into categories."""

from collections.abc import Iterator

import numpy as np

from secateur.pipelines.data import types
from secateur.pipelines.data.source_kinds.contract import Noted
from secateur.pipelines.data.sources import Loaded, Places

LISTED = 100
"""Most rows in a list; the count has all."""


def strays(loaded: Loaded) -> Iterator[Noted]:
    """A note about each such feature, by split, with the rows of its stray texts.

    Reads each column of texts in batches, and one with strays a second time.
    """
    places, schema = Places(loaded.rows, loaded.files), loaded.rows["train"].schema
    for name in (name for name in loaded.features if schema.field(name).type == types.TEXT):
        counts = np.zeros(5, np.int64)
        for rows in loaded.rows.values():
            for table in rows.batches([name]):
                counts += np.bincount(types.looks_of(types.series_of(table[name])), minlength=5)
        look = types.meant(counts)
        if look is None:
            continue
        for split, rows in loaded.rows.items():
            parts = [types.looks_of(types.series_of(table[name])) for table in rows.batches([name])]
            looks = np.concatenate([np.zeros(0, np.uint8), *parts])
            others = np.flatnonzero((looks != types.ABSENT) & (looks != look))
            if not len(others):
                continue
            values = rows.column(name).gather(others[:LISTED]).unique(maintain_order=True).to_list()
            some = ", ".join(repr(value[:50]) for value in values[:3]) + (", …" if len(values) > 3 else "")
            text = (
                f"feature {name!r} is read as categories: {counts[look]:,} of {counts[1:].sum():,} values are "
                f"{'numbers' if look == types.LIKE_NUMBER else 'booleans'}, and not {some} of the {split} split "
                f"({places.text(split, others)}); correct such values, or list them in encoding.missing"
            )
            yield Noted(
                "stray values", split, text, rows=tuple(places.pairs(split, others[:LISTED])), count=len(others)
            )
