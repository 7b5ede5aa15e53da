"""The one way this package says that an input is wrong: a sentence with key, value and what is allowed."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, TypeVar

T = TypeVar("T")


class InvalidInput(ValueError):
    """An input that cannot be used, said in one sentence.

    Args:
        key: name of the offending setting, as the user writes it (``depth``; ``under`` adds ``model.``).
        value: what was given.
        rule: what is allowed and what to do, in words that complete "key=value is not possible: ...".
    """

    def __init__(self, key: str, value: object, rule: str) -> None:
        super().__init__(key, value, rule)
        self.key, self.value, self.rule = key, value, rule

    def __str__(self) -> str:
        return f"{self.key}={_as_written(self.value)} is not possible: {self.rule}."

    def prefixed(self, prefix: str) -> InvalidInput:
        """Return the same complaint about ``prefix.key``."""
        return InvalidInput(f"{prefix}.{self.key}", self.value, self.rule)


class RunFailure(RuntimeError):
    """Something outside the settings stopped the work (disk, network, device); the message is one sentence."""


@contextmanager
def under(prefix: str) -> Iterator[None]:
    """Name the config group in complaints raised inside: ``depth`` becomes ``model.depth``."""
    try:
        yield
    except InvalidInput as error:
        raise error.prefixed(prefix) from error


def integer(key: str, value: object, minimum: int | None = None, maximum: int | None = None) -> int:
    """Return ``value`` as an int within [minimum, maximum], or raise `InvalidInput`."""
    rule = "it must be an integer" + _range(minimum, maximum)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        rule += _for_text(value)
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            rule += f", written without point or exponent: {int(value)}"
        raise InvalidInput(key, value, rule)
    number = int(value)
    if (minimum is not None and number < minimum) or (maximum is not None and number > maximum):
        raise InvalidInput(key, value, rule)
    return number


def real(
    key: str,
    value: object,
    minimum: float | None = None,
    maximum: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """Return ``value`` as a finite float in [minimum, maximum] and (above, below), or raise `InvalidInput`."""
    rule = "it must be a finite number" + _range(minimum, maximum, above, below)
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise InvalidInput(key, value, rule + _for_text(value))
    number = float(value)
    outside = (
        (minimum is not None and number < minimum)
        or (maximum is not None and number > maximum)
        or (above is not None and number <= above)
        or (below is not None and number >= below)
    )
    if outside:
        raise InvalidInput(key, value, rule)
    return number


def boolean(key: str, value: object) -> bool:
    """Return ``value`` if it is true or false, or raise `InvalidInput`."""
    if not isinstance(value, bool):
        raise InvalidInput(key, value, "it must be true or false")
    return value


def choice(key: str, value: object, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``allowed``, or raise `InvalidInput`."""
    names = list(allowed)
    if not isinstance(value, str) or value not in names:
        rule = names[0] if len(names) == 1 else f"one of {', '.join(names)}{closest(value, names)}"
        raise InvalidInput(key, value, f"it must be {rule}")
    return value


def text(key: str, value: object) -> str:
    """Return ``value`` if it is a text that is not empty, or raise `InvalidInput`."""
    if not isinstance(value, str) or not value:
        raise InvalidInput(key, value, "it must be a text that is not empty")
    return value


def optional(check: Callable[..., T], key: str, value: Any, *arguments: Any, **options: Any) -> T | None:
    """Return None for None, else what ``check`` returns; its complaint says that null is allowed too."""
    if value is None:
        return None
    try:
        return check(key, value, *arguments, **options)
    except InvalidInput as error:
        raise InvalidInput(error.key, error.value, f"{error.rule}, or null") from error


def unknown(key: str, value: object, here: Iterable[str], allowed: Iterable[str] = ()) -> InvalidInput:
    """Return the complaint that there is no setting ``key``: names that are ``here``, and which was probably meant.

    Args:
        key: the full name.
        value: what it was to be.
        here: names that are set in its place, to be shown.
        allowed: further names that could be set.
    """
    names = list(here)
    group, _, name = key.rpartition(".")
    there = f"{group or 'the config'} has {', '.join(names) or 'no keys'}"
    return InvalidInput(key, value, f"there is no key {key}; {there}{closest(name, [*names, *allowed])}")


def closest(name: object, known: Iterable[str]) -> str:
    """Return a remark on the name that was probably meant, or nothing."""
    near = get_close_matches(str(name), list(known), n=1)
    return f" (perhaps {near[0]}?)" if near else ""


def _as_written(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return value if isinstance(value, str) and value else repr(value)


def _for_text(value: object) -> str:
    """What to add where a number was written as a text, which shows no quotes."""
    return ", and no text in quotes" if isinstance(value, str) and value.strip("+-").isdecimal() else ""


def _range(minimum: float | None, maximum: float | None, above: float | None = None, below: float | None = None) -> str:
    bounds = ((minimum, "of at least"), (above, "above"), (maximum, "of at most"), (below, "below"))
    # Integers in full, so that the size of a large data set is not shown as 1.28117e+06.
    said = [
        f"{words} {bound if isinstance(bound, int) else format(bound, 'g')}"
        for bound, words in bounds
        if bound is not None
    ]
    return (" " + " and ".join(said)) if said else ""
