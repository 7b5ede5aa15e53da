"""Run folders in, tables and figures out."""

from eoc.analysis.spectrum_figure import draw_spectrum
from eoc.analysis.summary_figure import draw_summary
from eoc.analysis.table import read_histories, read_runs

__all__ = ["draw_spectrum", "draw_summary", "read_histories", "read_runs"]
