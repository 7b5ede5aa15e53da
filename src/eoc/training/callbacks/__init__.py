"""Callbacks that measure; each writes into the metrics of the current step."""
