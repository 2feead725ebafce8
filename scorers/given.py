"""Calls of scorers and selectors from Python: declarations that look like their functions, errors for bad arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from secateur.scorers.lazy import torch

DRESS = ("__doc__", "__module__", "__name__", "__qualname__")


def look_like(declaration: Any, function: Callable[..., object]) -> None:
    """Give a declaration the name, docstring and signature of its function, for `help` and editors."""
    for name in DRESS:
        object.__setattr__(declaration, name, getattr(function, name, None))
    object.__setattr__(declaration, "__signature__", inspect.signature(function))


def shown_call(function: Callable[..., object]) -> str:
    """The call of a function: its name, and its parameters with their defaults."""
    return f"{function.__name__}({', '.join(map(str, without_annotations(inspect.signature(function))))})"


def bound(what: str, function: Callable[..., object], *args: Any, **kwargs: Any) -> inspect.BoundArguments:
    """The arguments by their names; raises TypeError with the parameters of `what` where they do not fit."""
    signature = inspect.signature(function)
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        parameters = ", ".join(map(str, without_annotations(signature)))
        raise TypeError(f"{what}: {error}; it takes ({parameters})") from error


def without_annotations(signature: inspect.Signature) -> Iterable[inspect.Parameter | str]:
    """Parameters by name and default alone, with the star before those that are keywords."""
    starred = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        yield parameter.replace(annotation=parameter.empty)


def kind_of(value: Any) -> str:
    """The name of a value's type: list, pandas.Series, torch.Tensor."""
    return f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}".removeprefix("builtins.")


def refuse_no_array(what: str, name: str, value: Any, *, columns: bool = False) -> None:
    """Raise ValueError with the type of a value that is no NumPy array, and the way to make one of it.

    `columns` means that a whole table can become the array, not only one column of it.
    """
    if isinstance(value, np.ndarray):
        return
    if columns and hasattr(value, "columns"):
        remedy = f"give {name}.to_numpy(), with a dtype where its columns differ in theirs"
    elif hasattr(value, "columns"):
        remedy = f"give one column of it as {name}, such as {name}=table['{name}'].to_numpy()"
    elif hasattr(value, "detach"):
        remedy = f"give {name}.detach().cpu().numpy()"
    elif hasattr(value, "to_numpy"):
        remedy = f"give {name}.to_numpy()"
    elif hasattr(value, "__len__") and not isinstance(value, str | bytes | dict):
        remedy = f"give np.asarray({name})"
    else:
        remedy = "give one number per sample"
    raise ValueError(f"{what}: {name} is of type {kind_of(value)}, and a NumPy array is needed: {remedy}")


def refuse_no_tensors(what: str, **values: Any) -> None:
    """Raise TypeError that names the first value that is no torch tensor, its type, and the way to make one of it."""
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            continue
        if hasattr(value, "columns"):
            remedy = f"give one column of it as {name}, such as torch.tensor(table['{name}'].to_numpy())"
        elif hasattr(value, "to_numpy"):
            remedy = f"give torch.tensor({name}.to_numpy())"
        elif isinstance(value, np.ndarray):
            remedy = f"give torch.from_numpy({name})"
        else:
            remedy = f"give torch.tensor({name})" if hasattr(value, "__len__") else "give one value per sample"
        raise TypeError(f"{what}: {name} is of type {kind_of(value)}, and a torch tensor is needed: {remedy}")


def refuse_no_count(what: str, name: str, value: Any) -> None:
    """Raise ValueError for a budget that is no whole number, such as a share, which studies may have."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(
            f"{what}: {name} is {value!r}, and a count of samples is needed: a share of n samples is "
            f"round({value!r} * n)"
            if isinstance(value, float)
            else f"{what}: {name} is {value!r}, and a count of samples is needed"
        )
