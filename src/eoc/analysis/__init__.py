"""Run folders in, tables and figures out."""
