"""Projectors, objectives and the LightningModule that joins them to a backbone."""
