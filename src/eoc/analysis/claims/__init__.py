"""The paper's claims and ours: each experiment's cells, criteria, verdicts and figure."""
