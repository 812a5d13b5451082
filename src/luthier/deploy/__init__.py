"""Packages: a finished model as a directory that others load."""
