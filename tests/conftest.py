"""Shapes that are annotated are checked in every test run."""

from __future__ import annotations

from jaxtyping import install_import_hook

install_import_hook("eoc", "typechecking.shapes")
