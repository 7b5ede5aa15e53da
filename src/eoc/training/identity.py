"""What makes a run the one that it is: a hash of its resolved settings."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from omegaconf import DictConfig, OmegaConf

from eoc.tracking.settings import COUNTED, START, counts

RESOLVER = "run_identity"
PRESET = re.compile(r"\$\{paths\.\w+\}(/images)?")  # as conf/ writes paths
LENGTH = 12  # hexadecimal digits: two of a million runs agree by chance with probability 0.002


def identity(config: DictConfig) -> str:
    """Hash what determines a run's numbers; paths, loggers, progress, names and Hydra's own settings do not.

    A value that is written as in conf/, as a path of the ``paths`` group (``${paths.data}``), is left out, so that a
    sweep's folder may move; one that was given outright counts, and so does what follows in ``${paths.data}/mine``.

    Args:
        config: a composed config, with or without its ``hydra`` node.

    Returns:
        The first `LENGTH` hexadecimal digits of a SHA-256.
    """
    text = json.dumps(counted(config), sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def counted(config: DictConfig) -> dict[str, Any]:
    """Return the settings that determine a run's numbers, by their full keys."""
    settings: dict[str, Any] = {}
    for group in COUNTED:
        node = config.get(group)
        if isinstance(node, DictConfig):
            settings |= _leaves(OmegaConf.to_container(node), config, f"{group}.")
        else:
            settings[group] = node
    if config.get(START) is not None:
        settings[START] = config[START]
    return {key: value for key, value in settings.items() if counts(key)}


def _leaves(written: Any, config: DictConfig, prefix: str) -> dict[str, Any]:
    """Flatten ``written``, a node with its interpolations as they stand, resolving those that are no paths."""
    found: dict[str, Any] = {}
    for name, value in written.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            found |= _leaves(value, config, f"{key}.")
        elif "${paths." in str(value):
            if not PRESET.fullmatch(str(value)):
                found[key] = str(value)
        else:
            resolved = OmegaConf.select(config, key) if "${" in str(value) else value
            found[key] = _canonical(OmegaConf.to_object(resolved) if OmegaConf.is_config(resolved) else resolved)
    return found


def _canonical(value: Any) -> Any:
    """One way to write a number: 2 for 2.0, which command lines do not tell apart."""
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


OmegaConf.register_new_resolver(RESOLVER, lambda *, _root_: identity(_root_), replace=True)
