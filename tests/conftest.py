"""Shapes that are annotated are checked in every test run."""

from __future__ import annotations

from jaxtyping import install_import_hook

# The numeric tower lets an int stand where a float is annotated, as the language and mypy do.
install_import_hook(
    ["eoc.model", "eoc.dynamics", "eoc.data", "eoc.schedule"],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)
