"""Held-out evaluation, intervals, baselines, and what mattered."""
