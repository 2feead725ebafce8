"""The samplers for a training loop of your own, each under the name of its class and loaded on first use.

>>> import secateur as sc
>>> dir(sc.samplers)
['FixedSubset', 'Ies', 'InfoBatch', 'OrderDp', 'Repb', 'Rs2', 'SampledTraining', 'SamplerCallback', 'Seta', 'Shard', \
'SubsetSchedule', 'WithIds']
>>> sampler = sc.samplers.InfoBatch(100, 5, seed=0)
>>> sampler.set_epoch(0)
>>> len(list(sampler))
100
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from secateur.selectors.samplers.contract import Shard as Shard
    from secateur.selectors.samplers.fixed_subset import FixedSubset as FixedSubset
    from secateur.selectors.samplers.ies import Ies as Ies
    from secateur.selectors.samplers.info_batch import InfoBatch as InfoBatch
    from secateur.selectors.samplers.order_dp import OrderDp as OrderDp
    from secateur.selectors.samplers.repb import Repb as Repb
    from secateur.selectors.samplers.rs2 import Rs2 as Rs2
    from secateur.selectors.samplers.seta import Seta as Seta
    from secateur.selectors.samplers.subset_schedule import SubsetSchedule as SubsetSchedule
    from secateur.trainers.loop.own_loop import WithIds as WithIds

_PLACES = {
    "FixedSubset": "selectors.samplers.fixed_subset",
    "Ies": "selectors.samplers.ies",
    "InfoBatch": "selectors.samplers.info_batch",
    "OrderDp": "selectors.samplers.order_dp",
    "Repb": "selectors.samplers.repb",
    "Rs2": "selectors.samplers.rs2",
    "SampledTraining": "trainers.loop.own_loop",
    "SamplerCallback": "trainers.loop.sampler_callback",
    "Seta": "selectors.samplers.seta",
    "Shard": "selectors.samplers.contract",
    "SubsetSchedule": "selectors.samplers.subset_schedule",
    "WithIds": "trainers.loop.own_loop",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"there is no sampler {name!r}; there are: {', '.join(__dir__())}")
    return getattr(import_module(f"secateur.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_PLACES)
