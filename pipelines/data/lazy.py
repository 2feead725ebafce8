"""Arrow, polars and the types of columns by their usual names, imported at their first use.

Reading a study or a manifest needs neither, and their imports take most of the time of a small command.
A module that imports these names must leave annotations as text (`from __future__ import annotations`) and use them
inside functions alone.
"""

from typing import TYPE_CHECKING

from secateur.scorers.lazy import LazyModule

if TYPE_CHECKING:
    import polars as pl
    import polars_hash as plh
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv as arrow_csv
    from pyarrow import json as arrow_json
    from pyarrow import parquet as pq

    from secateur.pipelines.data import types
else:
    pl, plh, pa, pc, pq = map(LazyModule, ("polars", "polars_hash", "pyarrow", "pyarrow.compute", "pyarrow.parquet"))
    arrow_csv, arrow_json = map(LazyModule, ("pyarrow.csv", "pyarrow.json"))
    types = LazyModule("secateur.pipelines.data.types")

__all__ = ["arrow_csv", "arrow_json", "pa", "pc", "pl", "plh", "pq", "types"]
