"""Sweeps: which jobs are left, running them whatever becomes of one, and what became of all."""
