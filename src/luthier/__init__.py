"""Luthier: fine-tuning, whole."""
