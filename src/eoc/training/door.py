"""How the program ends when it cannot go on: one sentence and a non-zero exit, never a wall of traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from eoc.errors import InvalidInput, RunFailure

REFUSED = 2
INTERRUPTED = 130


def at_the_door(main: Callable[[], None]) -> None:
    """Run Hydra's ``main``; say what it refuses in one sentence.

    An error that is none of ours keeps its traceback, since it is a bug. ``HYDRA_FULL_ERROR=1`` shows all of them.
    """
    if os.environ.get("HYDRA_FULL_ERROR"):
        main()
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions through to here
    try:
        main()
    except (InvalidInput, RunFailure) as error:
        _leave(str(error))
    except MissingConfigException as error:
        known = ", ".join(error.options or ())
        _leave(f"{error.missing_cfg_file} is not a choice of this group: it must be one of {known}.")
    except (ConfigCompositionException, HydraException, OmegaConfBaseException) as error:
        _leave(_sentence(error))
    except OSError as error:
        reason = error.strerror or error
        _leave(f"{error.filename or 'a file'} cannot be used: {reason}; hydra.run.dir sets the run folder.")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _sentence(error: Exception) -> str:
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(said[:4]) + " (python train.py --help shows every group and key.)"


def _leave(sentence: str) -> None:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(REFUSED)
