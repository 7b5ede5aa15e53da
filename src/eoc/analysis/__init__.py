"""Run folders in, tables and figures out."""

from eoc.analysis.summary_figure import draw_summary

__all__ = ["draw_summary"]
