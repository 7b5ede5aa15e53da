"""What is built: activation gains, width profiles, the parameterization table, the MLP. Plain torch."""
