"""Learning-rate rules as small objects with state."""
