"""Shapes that are annotated are checked in every test run."""

from __future__ import annotations

import os

import torch
from jaxtyping import install_import_hook

install_import_hook(["eoc.model", "eoc.dynamics", "eoc.data", "eoc.schedule"], "typechecking.shapes")

# The tests' tensors are small: more threads would only wait for one another, for minutes on a busy machine.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # so do the processes that tests start
