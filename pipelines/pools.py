"""Concurrency pools of Dagster: what must not run twice at once."""

from typing import Final

ACCELERATOR: Final = "accelerator"
"""Pool of every asset that trains, embeds, or scores through a network: runs that need it wait for one another.

Its limit is `concurrency.pools.default_limit` of the instance's dagster.yaml, or what the UI says under Deployment >
Concurrency. It holds between runs; the steps of one run come one after another in its process.
"""
