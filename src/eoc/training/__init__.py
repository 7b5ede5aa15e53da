"""The LightningModule, its callbacks and the run loop."""
