"""The study of a search: what it was made for, and where it goes on."""

from __future__ import annotations

from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig, OmegaConf, read_write

from eoc.errors import InvalidInput
from eoc.training.identity import COUNTED, counted
from eoc.training.sweep.settings import check_spread

DIRECTION, SEARCHED = "hydra.sweeper.direction", "hydra.sweeper.params"
MADE_FOR = "made for"  # the attributes of a study that begin so: what all of its trials share, group by group


def begin(config: DictConfig) -> None:
    """Make the study of a search or find it again, for this objective and these fixed settings alone.

    Args:
        config: of the whole search.

    Raises:
        InvalidInput: if the study has trials of another objective or of other settings, or cannot be opened.
    """
    sweeper = config.hydra.sweeper
    for override in _given(config):
        check_spread(override, search=True)
    if sweeper.get("storage") is None or sweeper.get("study_name") is None:
        return  # each search makes its own
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # as Hydra's own
    wanted = _made_for(config)
    place = {"study_name": sweeper.study_name, "storage": sweeper.storage}
    try:
        study = optuna.load_study(**place)
    except KeyError:
        study = optuna.create_study(**place, direction=wanted[DIRECTION])
    except Exception as error:  # of a URL that is none, a driver or a server that is not there, a damaged file
        reason = " ".join(str(error).partition("\n")[0].split())
        raise InvalidInput("hydra.sweeper.storage", str(sweeper.storage), f"it cannot be opened ({reason})") from error
    trials = len(study.get_trials(deepcopy=False))
    there = _read(study)
    if trials and there:
        _refuse_a_difference(there, wanted, str(sweeper.storage))
    else:
        _write(study, wanted)
    seed = OmegaConf.select(sweeper, "sampler.seed")
    if seed is not None:  # counted up, or the sampler would propose the same values again
        with read_write(config.hydra):
            sweeper.sampler.seed = seed + trials


def _given(config: DictConfig) -> list[Override]:
    """Return what is searched and set: the sweeper's params, then the command line."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    return OverridesParser.create().parse_overrides([*params, *config.hydra.overrides.task])


def _made_for(config: DictConfig) -> dict[str, Any]:
    """Return objective, direction, what is searched, and every other setting that counts."""
    given = _given(config)
    last = {override.key_or_group: override for override in given}
    searched = sorted(key for key, override in last.items() if override.is_sweep_override())
    settings = counted(config)
    for override in given[: len(config.hydra.sweeper.get("params") or {})]:  # which the config does not have
        key = override.key_or_group
        if last[key] is override and key.partition(".")[0] in COUNTED:
            settings[key] = getattr(override.value(), "text", override.value())
    fixed = {key: value for key, value in settings.items() if not any(f"{key}.".startswith(f"{a}.") for a in searched)}
    direction = config.hydra.sweeper.direction
    space = ", ".join(f"{key}: {_kind(last[key])}" for key in searched)
    first = {"objective": config.objective, DIRECTION: getattr(direction, "name", direction), SEARCHED: f"[{space}]"}
    return {**first, **fixed}


def _kind(override: Override) -> str:
    """Return what Optuna holds fixed of a searched value: the bounds of a range or interval may change."""
    value = override.value()
    if not isinstance(value, IntervalSweep | RangeSweep) or getattr(value, "shuffle", False):
        return str(override.input_line).partition("=")[2]
    name, end = ("interval", value.end) if isinstance(value, IntervalSweep) else ("range", value.stop)
    whole = isinstance(value.start, int) and isinstance(end, int) and isinstance(getattr(value, "step", 1), int)
    return f"{'log ' if 'log' in value.tags else ''}{name} of {'integers' if whole else 'numbers'}"


def _refuse_a_difference(there: dict[str, Any], wanted: dict[str, Any], storage: str) -> None:
    for key in [*wanted, *there]:
        before, now = there.get(key), wanted.get(key)
        if before != now:
            was = str(InvalidInput(key, before, "")).partition(" is not possible")[0]
            rule = f"the study in {storage} was made with {was}; keep to that, or choose another hydra.sweep.dir"
            raise InvalidInput(key, now, rule)


def _read(study: Any) -> dict[str, Any]:
    parts = [part for name, part in study.user_attrs.items() if name.startswith(MADE_FOR)]
    return {key: value for part in parts for key, value in part.items()}


def _write(study: Any, settings: dict[str, Any]) -> None:
    parts: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        parts.setdefault(key.partition(".")[0], {})[key] = value
    for group, part in parts.items():  # one by one, since some databases take no long texts
        study.set_user_attr(f"{MADE_FOR} {group}", part)
