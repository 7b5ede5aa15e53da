"""Where numbers go: the run folder, CSV, W&B."""
