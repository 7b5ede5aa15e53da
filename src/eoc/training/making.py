"""From a node of the config to the object it names, with every refusal named by its key."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from eoc.errors import InvalidInput, under, unknown

HYDRAS = ("_args_", "_recursive_", "_convert_")  # words of Hydra's in which a node could say something else


def make(key: str, node: Any, **arguments: Any) -> Any:
    """Instantiate the config node ``key``; what it refuses is raised as `InvalidInput` with the key in front."""
    _check_keys(key, node, arguments)
    if key != "curvature" and node.get("_partial_") is not None:  # whose probes are made later
        raise InvalidInput(f"{key}._partial_", plain(node["_partial_"]), "leave it out")
    with under(key):
        try:
            return instantiate(node, **arguments)
        except InstantiationException as error:
            if "blocklisted" in str(error):
                rule = "Hydra calls no such function; name a class, as in conf/"
                raise InvalidInput(*_blamed(node, str(error)), rule) from error
            cause = error.__cause__ or error  # Hydra's wrapping says nothing more
        raise cause


def _blamed(node: Any, error: str, prefix: str = "") -> tuple[str, str]:
    """Return key and value of the target of which an error speaks, the deepest: Hydra makes the inner ones first."""
    for key, value in node.items():
        if isinstance(value, Mapping) and _blamed(value, error)[1] in error:
            return _blamed(value, error, f"{prefix}{key}.")
    return f"{prefix}_target_", str(node.get("_target_", None))


@contextmanager
def _quiet_hydra() -> Iterator[None]:
    """Hydra prints an import's error before it raises it; what is raised is enough."""
    log = logging.getLogger("hydra.utils")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _check_keys(key: str, node: Any, arguments: Mapping[str, Any]) -> None:
    """Hold the keys of a node, and of those below it, against the parameters of what it names."""
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise InvalidInput(key, plain(node), "it must be settings with a _target_, as in conf/")
    try:
        with _quiet_hydra():
            named = get_object(node["_target_"])
    except Exception as error:  # whatever an import of an unknown name runs into
        raise InvalidInput(f"{key}._target_", node["_target_"], "there is no such class or function") from error
    try:
        parameters = signature(named).parameters.values()
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{key}._target_", node["_target_"], "it does not say which keys it takes") from error
    for name in HYDRAS:
        if name in node:
            raise InvalidInput(f"{key}.{name}", plain(node[name]), "leave it out")
    if not isinstance(node.get("_partial_", True), bool):
        raise InvalidInput(f"{key}._partial_", plain(node["_partial_"]), "it must be true")
    names = {each.name for each in parameters if each.kind is not each.VAR_KEYWORD}
    is_open = any(each.kind is each.VAR_KEYWORD for each in parameters)
    settings = {str(name): value for name, value in node.items() if not str(name).startswith("_")}
    if settings and not is_open and names.isdisjoint(settings) and (len(settings) > 1 or not names):
        raise InvalidInput(
            f"{key}._target_", node["_target_"], f"it takes none of the keys of {key} ({', '.join(settings)})"
        )
    for name, value in settings.items():
        if name in arguments:
            raise InvalidInput(f"{key}.{name}", plain(value), "the program sets it itself; leave it out")
        if name not in names and not is_open:
            here = [each for each in settings if each in names]
            raise unknown(f"{key}.{name}", plain(value), here, names - arguments.keys())
        if isinstance(value, DictConfig) and "_target_" in value:
            _check_keys(f"{key}.{name}", value, {})
    for each in parameters:
        required = each.default is each.empty and each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
        if required and each.name not in settings and each.name not in arguments and not node.get("_partial_"):
            if "_partial_" in node:
                raise InvalidInput(f"{key}._partial_", plain(node["_partial_"]), "it must be true")
            raise InvalidInput(f"{key}.{each.name}", None, "it must be given")


def plain(node: Any) -> Any:
    """Return a value of the config as Python's own."""
    return OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
