"""What this project adds to Hydra; Hydra finds it by the name of this package."""
