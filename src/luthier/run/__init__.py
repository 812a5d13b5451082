"""A whole run: from a dataset to a chosen, trained, proven and saved model."""
