"""Serving: a finished model behind HTTP."""
