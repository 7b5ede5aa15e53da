"""What Hydra finds wrong with the command line, in one sentence that names the key and what is there instead."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from shlex import quote

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from eoc.errors import InvalidInput, closest, unknown

EXTRAS = {"optuna": "optuna"}  # choices that others bring → the extra that installs them
HELP = "python train.py --help shows every group and key"


def complaint(error: Exception, arguments: list[str], conf: Path) -> str | None:
    """Return what Hydra or OmegaConf objects to as a sentence; None for an error that is not theirs.

    Args:
        error: what was raised while the config was composed or read.
        arguments: the command line.
        conf: the folder of the config groups.
    """
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    text = str(error)
    if nameless := [override for override in overrides if re.match(r"[~+]*(=|$)", override)]:
        return f"{nameless[0]!r} is not possible: it names no setting; {HELP}."
    if isinstance(error, MissingConfigException):
        return _no_such_choice(error, conf)
    if isinstance(error, OverrideParseException) and re.fullmatch(r"[\w./]+", error.override):
        return f"{error.override} is not possible: a setting is written key=value, and this has no =."
    if isinstance(error, OverrideParseException) and "=~" in error.override:
        return f"{error.override} is not possible: ~ stands for a folder only where a shell reads it; write $HOME."
    if isinstance(error, OverrideParseException):
        rule = f"it cannot be read as key=value ({_first_line(text)}); quote special characters: 'key=\"value\"'"
        return f"{error.override} is not possible: {rule}."
    if isinstance(error, ValueError) and text.startswith("Config group override"):
        return _no_choice(overrides, conf)
    if isinstance(error, ValueError) and text.startswith("Unable to configure"):
        return f"hydra.job_logging is not possible: {_first_line(text)} ({error.__cause__})."
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    for pattern, sentence in (
        (r"To append to your config use \+(?P<override>\S*)", lambda it: _unknown_key(error, it, overrides, conf)),
        (r"Could not delete .*'(?P<override>.*?)'", lambda it: _nothing_to_remove(it, overrides, conf)),
        (r"Ambiguous value for argument '(?P<override>.*)'", lambda it: _sweep(it, overrides, conf)),
        (r"Sweep parameters '(?P<override>.*)' requires --multirun", lambda it: _sweep(it, overrides, conf)),
        (r"Multiple values for (?P<override>[^\s.]*)", _there_already),
        (r"^(?P<override>\S*) appears more than once in the final defaults list", _there_already),
        (r"Could not override '(?P<override>\S*@\S*)'", _no_package),
        (r"An item is already at '(?P<override>.*?)'", _there_already),
        (r"Error merging override (?P<override>.*)", lambda it: _not_merged(it, error)),
        (r"Interpolation key '(?P<override>.*?)' not found", lambda it: _needed(it, error, overrides)),
    ):
        found = re.search(pattern, text)
        if found and (said := sentence(found["override"])) is not None:
            return said
    asked = [override for override in overrides if "${" in override]
    if "nterpolation" in text and len(asked) == 1:
        rule = f"{_first_line(text)}; inside ${{...}} stands a key that is there, or oc.env: and a variable that is set"
        return f"{asked[0]} is not possible: {rule}."
    where = f"{error.full_key}: " if isinstance(error, OmegaConfBaseException) and error.full_key else ""
    return f"{where}{_first_line(text)}; {HELP}."


def set_by(key: str, arguments: list[str], conf: Path) -> str | None:
    """Return the experiment (``experiment=name``) on the command line that sets a key which is not there itself."""
    given = dict(argument.lstrip("+").partition("=")[::2] for argument in arguments)
    file = conf / "experiment" / f"{given.get('experiment')}.yaml"
    if key in given or not file.is_file() or OmegaConf.select(OmegaConf.load(file), key) is None:
        return None
    return f"experiment={given['experiment']}"


def as_written(error: InvalidInput, arguments: list[str]) -> InvalidInput:
    """Return a complaint about a place in the name of the ``paths.*`` on the command line that says it."""
    given = dict(argument.partition("=")[::2] for argument in arguments)
    for key, value in given.items():
        if key.startswith("paths.") and error.key not in given and value and value == error.value:
            return InvalidInput(key, error.value, error.rule)
    return error


def _no_such_choice(error: MissingConfigException, conf: Path) -> str:
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    options = [str(option) for option in error.options or _choices(group, conf)]  # Hydra has none for a list
    if name in EXTRAS:
        return f"{group}={name} is not possible: it is not installed, pip install -e '.[{EXTRAS[name]}]' does it."
    if not group or not options:
        return f"{_first_line(str(error))}; {HELP}."
    return str(InvalidInput(group, name, f"it must be one of {', '.join(options)}{closest(name, options)}"))


def _no_choice(overrides: list[str], conf: Path) -> str:
    for override in OverridesParser.create().parse_overrides(overrides):
        options = _choices(override.key_or_group, conf)
        if override.key_or_group and options and not isinstance(override.value(), str | list):
            rule = f"it must be one of {', '.join(options)}; leave it out for the default"
            return f"{override.input_line} is not possible: {rule}."
    return f"a config group takes the name of one of its choices; {HELP}."


def _choices(group: str, conf: Path) -> list[str]:
    return sorted(path.stem for path in (conf / group).glob("*.yaml"))


def _unknown_key(error: Exception, override: str, overrides: list[str], conf: Path) -> str:
    cause = error.__cause__
    key, _, value = override.partition("=")
    parent = getattr(cause, "parent_node", None)
    known = _public(parent) if isinstance(parent, DictConfig) else []
    missing = getattr(cause, "full_key", None) or key
    if f"~{missing}" in overrides:
        return str(InvalidInput(key, value, f"{missing} was removed, by ~{missing}; leave out one of the two"))
    if "." not in missing:
        known = sorted({*known, *(path.name for path in conf.iterdir() if path.is_dir())})
    rule = unknown(missing, value, known).rule
    if not any(override.lstrip("+").startswith(f"{key}=") for override in overrides):
        rule = f"{rule}; hydra.sweeper.params searches it"  # the only other who writes overrides
    return str(InvalidInput(key, value, rule))


def _nothing_to_remove(key: str, overrides: list[str], conf: Path) -> str:
    name, chosen, _ = key.partition("=")
    group, _, last = name.rpartition(".")
    try:
        with initialize_config_dir(str(conf), version_base="1.3"):
            rest = [override for override in overrides if not override.startswith(f"~{name}")]
            config = compose("config", overrides=rest)
        node = OmegaConf.select(config, group) if group else config
    except (HydraException, OmegaConfBaseException, ValueError):
        node = None  # something else is wrong as well
    known = _public(node) if isinstance(node, DictConfig) else []
    if last in known:
        return f"~{key} is not possible: {name} is {'another choice' if chosen else 'null already'}."
    return str(InvalidInput(f"~{name}", chosen, unknown(name, chosen, known).rule)).replace("=''", "", 1)


def _sweep(override: str, overrides: list[str], conf: Path) -> str:
    # Where an experiment asks for a sweep, Hydra sees that only if all else is right: what is not is said first.
    parsed = OverridesParser.create().parse_overrides(overrides)
    others = [each.input_line for each in parsed if each.input_line and not each.is_sweep_override()]
    try:
        with initialize_config_dir(str(conf), version_base="1.3"):
            compose("config", overrides=others)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if (said := complaint(error, others, conf)) is not None:
            return said
    remedy = f"to run one job for each, put -m in front (python train.py -m {quote(override)}); a list is written [a,b]"
    return f"{override} is not possible: one run takes one value; {remedy}."


def _there_already(key: str) -> str:
    return f"+{key}=... is not possible: {key} is there already; leave out the +."


def _no_package(key: str) -> str:
    return f"{key}=... is not possible: there is no {key}; write {key.partition('@')[0]}=..."


def _not_merged(override: str, error: Exception) -> str:
    reason = _reason(error)
    if "HydraConfig was not set" in reason:  # Hydra looks at the value that is there, which is not known so early
        if override.startswith("~"):
            return f"{override} is not possible: the program needs it; leave it out."
        return _there_already(override[1:].partition("=")[0])
    return f"{override} is not possible: {reason}."


def _needed(key: str, error: Exception, overrides: list[str]) -> str | None:
    removed = (each for each in overrides if each.startswith("~"))
    removal = next((each for each in removed if f"{key}.".startswith(f"{each[1:].partition('=')[0]}.")), None)
    by = getattr(error, "full_key", None) or "the program"
    return removal and f"{removal} is not possible: {by} needs {key}; leave it out."


def _reason(error: Exception) -> str:
    if "object_type=RangeSweep" in str(error.__cause__) or "object_type=ChoiceSweep" in str(error.__cause__):
        return 'a sweep inside [...] or {...} is written as a text, such as "0,1" or "range(6)"'
    return re.sub(r"field '.*' is not Optional", "it cannot be null", _first_line(str(error.__cause__ or error)))


def _public(names: Iterable[object]) -> list[str]:
    return sorted({str(name) for name in names if not str(name).startswith("_")} - {"hydra"})


def _first_line(text: str) -> str:
    first = next((line.strip().rstrip(".") for line in text.splitlines() if line.strip()), "")
    return first.replace("LexerNoViableAltException: ", "no value or list is written so: ")
