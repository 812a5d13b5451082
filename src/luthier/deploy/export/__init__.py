"""Exports: a finished model in the form another program runs, checked against the model that was
evaluated."""
