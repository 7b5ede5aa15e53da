"""Composing hundreds of configs that differ in a few values, at a tenth of the cost of composing each anew."""

from __future__ import annotations

import copy
import pickle
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

# Composed configs of this process, as functions that return a copy.
_TEMPLATES: dict[tuple[str, tuple[str, ...]], Callable[[], DictConfig]] = {}


class RememberingLoader(ConfigLoader):
    """Hydra's loader, which composes a sweep's jobs once for every choice of groups and sets the other values in it.

    Composing means reading some twenty files (about 75 ms); the value of a key does not change which. Overrides of
    values that are no plain numbers, texts or lists, that add or delete, or that touch one another's keys are Hydra's
    own business, as is everything that goes wrong. A word is parsed once, however many jobs have it.

    Args:
        loader: Hydra's.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self._sweep = uuid.uuid4().hex  # a worker process may serve several sweeps
        self._groups: dict[str, bool] = {}
        self._parsed: dict[str, Override] = {}

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Compose the config of one job."""
        parsed = [self._parse(word) for word in sweep_overrides]
        plain = [override for override in parsed if self._is_plain(override, parsed)]
        if not plain:
            return self._loader.load_sweep_config(master_config, list(sweep_overrides))
        others = tuple(str(override.input_line) for override in parsed if override not in plain)
        try:
            config = self._template(master_config, others)
            for override in plain:
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except Exception:  # said by Hydra, in the order of the command line
            return self._loader.load_sweep_config(master_config, list(sweep_overrides))
        self._note(config, master_config, parsed)
        OmegaConf.copy_cache(from_config=master_config, to_config=config)  # the sweep's time, for one
        return config

    def _parse(self, word: str) -> Override:
        if word not in self._parsed:
            (self._parsed[word],) = OverridesParser.create().parse_overrides([word])
        return self._parsed[word]

    def _is_group(self, key: str) -> bool:
        if key not in self._groups:
            self._groups[key] = bool(self._loader.get_group_options(key))
        return self._groups[key]

    def _is_plain(self, override: Override, all_of_them: Sequence[Override]) -> bool:
        key = override.key_or_group
        if override.type != OverrideType.CHANGE or override.package is not None or isinstance(override.value(), dict):
            return False
        if self._is_group(key):
            return False
        # Choices are made before values are set, whatever their order; a dict for a group is a value.
        values = [
            each for each in all_of_them if isinstance(each.value(), dict) or not self._is_group(each.key_or_group)
        ]
        others = [each.key_or_group for each in values if each is not override]
        return not any(f"{other}.".startswith(f"{key}.") or f"{key}.".startswith(f"{other}.") for other in others)

    def _template(self, master_config: DictConfig, overrides: tuple[str, ...]) -> DictConfig:
        key = (self._sweep, overrides)
        if key not in _TEMPLATES:
            _TEMPLATES[key] = _copier(self._loader.load_sweep_config(master_config, list(overrides)))
        return _TEMPLATES[key]()

    def _note(self, config: DictConfig, master_config: DictConfig, parsed: Sequence[Override]) -> None:
        """Set what Hydra says in a config about its overrides."""
        from_sweep = [override for override in parsed if override.is_hydra_override()]
        task = [override for override in parsed if not override.is_hydra_override()]
        # as they were written: a job's number, for one, is not known yet
        before = OmegaConf.to_container(master_config.hydra.overrides.hydra, resolve=False)
        assert isinstance(before, list)
        said = [*before, *(override.input_line for override in from_sweep)]
        config.hydra.overrides.hydra = said
        config.hydra.overrides.task = [override.input_line for override in task]
        style = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            overrides=task, kv_sep=style.kv_sep, item_sep=style.item_sep, exclude_keys=style.exclude_keys
        )

    # -- Hydra's own -------------------------------------------------------------------------------------------------

    def load_configuration(self, *args: Any, **kwargs: Any) -> DictConfig:
        """Compose as Hydra does."""
        return self._loader.load_configuration(*args, **kwargs)

    def get_search_path(self) -> Any:
        """Return Hydra's."""
        return self._loader.get_search_path()

    def get_sources(self) -> Any:
        """Return Hydra's."""
        return self._loader.get_sources()

    def list_groups(self, parent_name: str) -> list[str]:
        """Return Hydra's."""
        return self._loader.list_groups(parent_name)

    def get_group_options(self, *args: Any, **kwargs: Any) -> list[str]:
        """Return Hydra's."""
        return self._loader.get_group_options(*args, **kwargs)

    def compute_defaults_list(self, *args: Any, **kwargs: Any) -> Any:
        """Return Hydra's."""
        return self._loader.compute_defaults_list(*args, **kwargs)


def _copier(config: DictConfig) -> Callable[[], DictConfig]:
    try:
        pickled = pickle.dumps(config)  # unpickling is five times as fast as copying
    except pickle.PicklingError:  # in a worker process, into which Hydra's plugins are imported twice
        return lambda: copy.deepcopy(config)
    return lambda: pickle.loads(pickled)
