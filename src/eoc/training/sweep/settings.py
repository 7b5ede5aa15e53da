"""Settings of a whole sweep, refused before any of its jobs starts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from eoc.errors import InvalidInput, choice, integer, optional, under

Check = Callable[[str, Any], object]
SLACK = 30  # s by which SLURM may be early, since it looks that rarely


def check_sweep(config: DictConfig) -> None:
    """Refuse what the sweeper or the launcher would fall over.

    Args:
        config: of the whole sweep, with its ``hydra`` node.

    Raises:
        InvalidInput: naming the setting, what it is and what is allowed.
    """
    for part, checks in (("sweeper", SWEEPER), ("launcher", LAUNCHER)):
        given = OmegaConf.to_container(config.hydra[part])
        assert isinstance(given, dict)
        with under(f"hydra.{part}"):
            for key, check in checks.items():
                if key in given:
                    check(key, given[key])
            if part == "launcher":
                _leaves_time(given)


def worst(config: DictConfig) -> float:
    """Return what a job that failed or diverged is worth to the sweeper: infinity, or minus that if it maximizes."""
    direction = config.hydra.sweeper.get("direction")
    return -math.inf if getattr(direction, "name", direction) == "maximize" else math.inf


def _jobs_at_once(key: str, value: Any) -> None:
    if value is not None:
        try:
            integer(key, value, 1)
        except InvalidInput as error:
            raise InvalidInput(key, value, f"{error.rule}, or null for all jobs at once") from error


def _processes(key: str, value: Any) -> None:
    if integer(key, value) < -1 or value == 0:
        raise InvalidInput(key, value, "it must be an integer of at least 1, or -1 for one process a core")


def _leaves_time(given: dict[Any, Any]) -> None:
    """Refuse a queue's job that would be told to end as soon as it starts, again and again until it is lost."""
    minutes, delay = given.get("timeout_min"), given.get("signal_delay_s")
    if isinstance(minutes, int) and isinstance(delay, int) and 60 * minutes <= delay + SLACK:
        rule = (
            f"SLURM tells a job to end signal_delay_s={delay} s and up to {SLACK} s more before its time is up; "
            f"it must be at least {(delay + SLACK) // 60 + 1}"
        )
        raise InvalidInput("timeout_min", minutes, rule)


def _mapping(key: str, value: Any) -> None:
    if value is not None and not isinstance(value, dict):
        raise InvalidInput(key, value, "it must be a mapping of keys to values, such as {seed: '0,1,2'}, or null")


def _mappings(key: str, value: Any) -> None:
    if value is not None and not (isinstance(value, list) and all(isinstance(grid, dict) for grid in value)):
        raise InvalidInput(key, value, "it must be a list of mappings, such as [{seed: '0,1'}, {seed: '2'}], or null")


def _direction(key: str, value: Any) -> None:
    choice(key, getattr(value, "name", value), ("minimize", "maximize"))


def _without_effect(key: str, value: Any) -> None:
    if value != 0.0:  # the plugin's default
        raise InvalidInput(
            key, value, "a job that fails counts as the worst there is, and stops no search; leave it out"
        )


SWEEPER: dict[str, Check] = {
    "max_batch_size": _jobs_at_once,
    "params": _mapping,
    "grids": _mappings,
    "n_trials": lambda key, value: integer(key, value, 1),
    "n_jobs": lambda key, value: integer(key, value, 1),
    "max_failure_rate": _without_effect,
    "direction": _direction,
}
LAUNCHER: dict[str, Check] = {
    "n_jobs": _processes,
    "backend": lambda key, value: optional(choice, key, value, ("loky",)),  # the processes' own
}


def check_spread(override: Override, *, search: bool) -> None:
    """Refuse a sweep's list, range or interval that holds nothing, or that its sweeper cannot read.

    Args:
        override: as parsed.
        search: whether a search draws from it; a grid takes all of its values.

    Raises:
        InvalidInput: naming the setting and what is written there.
    """
    if not override.is_sweep_override():
        return
    key, value = override.key_or_group, override.value()
    written = str(override.input_line).partition("=")[2]
    if isinstance(value, IntervalSweep):
        if not search:
            rule = "a grid takes a list or a range; an interval is for a search, hydra/sweeper=best_rate"
            raise InvalidInput(key, written, rule)
        _ordered(key, written, value.start, value.end, logarithmic="log" in value.tags)
        return
    if search:
        if not isinstance(value, RangeSweep):
            return
        _ordered(key, written, value.start, value.stop, logarithmic="log" in value.tags)
    try:
        empty = next(iter(override.sweep_string_iterator()), None) is None
    except (ValueError, HydraException) as error:
        raise InvalidInput(key, written, str(error).partition("\n")[0].rstrip(".")) from error
    if empty:
        raise InvalidInput(key, written, "it holds no value")


def _ordered(key: str, written: str, low: Any, high: Any, *, logarithmic: bool) -> None:
    if not low <= high or (logarithmic and low <= 0):
        rule = "the lower end comes first" + (", and on a logarithmic scale it must be above 0" if logarithmic else "")
        raise InvalidInput(key, written, rule)


def expect_our_launchers() -> None:
    """Let conf/hydra/launcher/ replace the plugins' own choices of these names without a word of Hydra's."""
    replaced = r"\s*'hydra/launcher/(submitit_local|joblib)' is validated against ConfigStore"
    warnings.filterwarnings("ignore", message=replaced)
