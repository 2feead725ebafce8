"""Dagster's UI shows our own errors as a sentence without a stack, which a mistake in data or settings does not need.

Other errors, of a library, of the user's code or bugs of ours, keep their stack.
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
    """An error of which Dagster records the text and no stack; `__cause__` is the original error.

    Dagster records the error info that an exception of this base class carries, for it assumes another process.
    """

    def __init__(self, text: str) -> None:
        told = SerializableErrorInfo(text, [], None)
        super().__init__(text, user_code_process_error_infos=[told])  # type: ignore[no-untyped-call]


def is_ours(error: BaseException) -> bool:
    """Whether a `raise` statement of this package raised a ValueError or OSError; excludes libraries and bugs."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    if at is None or not isinstance(error, ValueError | OSError):
        return False
    frame = at.tb_frame
    return frame.f_globals.get("__name__", "").startswith(OURS) and frame.f_code.co_code[at.tb_lasti] == RAISES


@contextmanager
def in_a_sentence() -> Iterator[None]:
    """Raise Sentence for an error of ours; pass on others."""
    try:
        yield
    except Sentence:
        raise
    except (ValueError, OSError) as error:
        if not is_ours(error):
            raise
        raise Sentence(str(error)) from error


def told_in_a_sentence(step: Step) -> Step:
    """The same step, with our own errors as Sentence."""
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
