"""Policies by which classes share a budget: any selector runs inside each class with the quota of that class."""

import inspect
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from secateur.scorers.contract import positional
from secateur.selectors.contract import Selector
from secateur.selectors.draws.quotas import Counts, apportion, balanced, proportional
from secateur.selectors.draws.ranks import Keep
from secateur.selectors.draws.strata import Strata, codes_of, sizes_of

Policy = Literal["none", "proportional", "balanced"]


def with_class_policy(chosen: Selector[...], policy: Policy, *, floor: int = 0) -> Selector[...]:
    """The same selector under a class policy; it reads `strata` besides its own signals.

    Strata are classes; for numbers, quantiles; for samples with several labels, the rarest label of each, so that a
    budget goes to labels.

    - `none`: the selector alone decides, except that each class keeps at least `floor`;
    - `proportional`: each class its share, by largest remainder;
    - `balanced`: all classes as equal as their sizes allow.

    `floor` samples of each class stay, or all of a smaller one. Within a class the selector sees the class alone:
    fractions such as a cutoff are fractions of the class. The call raises ValueError where floors, or the samples that
    the settings leave in each class, make the budget impossible.
    """
    if floor < 0:
        raise ValueError(f"floor is a count of samples per class, got {floor}")
    if policy == "none" and not floor:
        return chosen
    signature = with_strata(inspect.signature(chosen.choose))

    def choose(*args: Any, **kwargs: Any) -> Keep:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        strata, budget = arguments["strata"], arguments["budget"]
        if arguments.get("ids") is None:
            arguments["ids"] = np.arange(len(strata))
        if "strata" not in chosen.reads:
            del arguments["strata"]
        classes, occurring = codes_of(strata)
        sizes = sizes_of(classes, len(occurring))
        allowed = chosen.allowed(arguments)
        held = sizes if allowed is None else sizes_of(classes[allowed], len(occurring))
        room = np.array([chosen.most(int(size), arguments) for size in held])
        if policy == "none":
            keep = chosen(**arguments)
            kept = sizes_of(classes[keep], len(occurring))
            if (kept >= np.minimum(floor, sizes)).all():
                return keep
            quotas = apportion(kept, sizes, budget, floor=floor, room=room)
        else:
            share_out = proportional if policy == "proportional" else balanced
            quotas = share_out(sizes, budget, floor=floor, room=room)
        return stitched(chosen, arguments, classes, quotas)

    choose.__signature__ = signature  # type: ignore[attr-defined]
    # The selector applies its own room, candidates and memory in each class.
    return replace(
        chosen,
        choose=choose,
        reads=positional(choose),
        monotone=False,
        room=None,
        candidates=None,
        by_id=False,
        memory=None,
    )


def stitched(chosen: Selector[...], arguments: dict[str, Any], classes: Strata, quotas: Counts) -> Keep:
    """The selector's masks inside each class, as one mask."""
    keep = np.zeros(len(classes), dtype=np.bool_)
    order = np.argsort(classes, kind="stable")
    members = np.split(order, np.searchsorted(classes[order], np.arange(1, len(quotas))))
    for rows, quota in zip(members, quotas, strict=True):
        if quota:
            own = {name: value[rows] if isinstance(value, np.ndarray) else value for name, value in arguments.items()}
            keep[rows] = chosen(**own | {"budget": int(quota)})
    return keep


def with_strata(signature: inspect.Signature) -> inspect.Signature:
    """The signature with `strata` among the signals, before the budget."""
    parameters = list(signature.parameters.values())
    if "strata" in signature.parameters:
        return signature
    strata = inspect.Parameter("strata", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=np.ndarray)
    at = [parameter.name for parameter in parameters].index("budget")
    return signature.replace(parameters=[*parameters[:at], strata, *parameters[at:]])
