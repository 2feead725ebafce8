"""Errors of ours in Dagster's UI: the sentence alone. Whoever has a mistake in data or settings needs no stack of it.

What breaks otherwise, in a library, in code of the user's or in ours, keeps its stack.
"""

import dis
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from dagster._core.errors import DagsterUserCodeProcessError
from dagster_shared.error import SerializableErrorInfo

Step = TypeVar("Step", bound=Callable[..., Any])
RAISES = dis.opmap["RAISE_VARARGS"]
OURS = "secateur."


class Sentence(DagsterUserCodeProcessError, ValueError):
    """An error of which Dagster records the text and no stack; `__cause__` is the error itself.

    Dagster writes of an error of this class what the error brings along, for one of another process has no stack here.
    """

    def __init__(self, text: str) -> None:
        told = SerializableErrorInfo(text, [], None)
        super().__init__(text, user_code_process_error_infos=[told])  # type: ignore[no-untyped-call]


def is_ours(error: BaseException) -> bool:
    """Whether a statement `raise` of this package raised a ValueError or an OSError; no library did, and no slip."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    if at is None or not isinstance(error, ValueError | OSError):
        return False
    frame = at.tb_frame
    return frame.f_globals.get("__name__", "").startswith(OURS) and frame.f_code.co_code[at.tb_lasti] == RAISES


@contextmanager
def in_a_sentence() -> Iterator[None]:
    """Raises Sentence for an error of ours; others pass."""
    try:
        yield
    except Sentence:
        raise
    except (ValueError, OSError) as error:
        if not is_ours(error):
            raise
        raise Sentence(str(error)) from error


def told_in_a_sentence(step: Step) -> Step:
    """What a step of Dagster does, with errors of ours as Sentence."""
    if inspect.isgeneratorfunction(step):

        @functools.wraps(step)
        def generator(*given: Any, **named: Any) -> Iterator[Any]:
            with in_a_sentence():
                yield from step(*given, **named)

        return generator  # type: ignore[return-value]

    @functools.wraps(step)
    def function(*given: Any, **named: Any) -> Any:
        with in_a_sentence():
            return step(*given, **named)

    return function  # type: ignore[return-value]
