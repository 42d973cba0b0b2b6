"""Hydra's side: composition, sweeps, launchers."""
