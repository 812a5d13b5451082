"""Trains recipes: what is shared between trials, the one training loop, and checkpoints."""
