"""Train one network, or a sweep of them (``-m``): ``python train.py model=nup schedule=geometric``."""

from __future__ import annotations

import gc
import sys

gc.disable()  # what imports make stays: to look for garbage among it again and again takes a second

try:
    from pathlib import Path

    import hydra
    from omegaconf import DictConfig

    from eoc.training.door import at_the_door
    from eoc.training.memory import set_apart
    from eoc.training.run import run
except ModuleNotFoundError as error:
    remedy = (
        "make setup installs what is needed into .venv; then run .venv/bin/python train.py, or activate .venv first"
    )
    print(f"error: there is no module {error.name} in this Python ({sys.executable}): {remedy}.", file=sys.stderr)
    sys.exit(2)
except KeyboardInterrupt:  # later ones are the door's
    print("interrupted", file=sys.stderr)
    sys.exit(130)

set_apart()
gc.enable()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float:
    """Run what the config says; the returned objective is for sweepers."""
    return run(config)


if __name__ == "__main__":
    at_the_door(main, Path(__file__).resolve().parent / "conf")
