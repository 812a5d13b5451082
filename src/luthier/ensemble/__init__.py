"""Several trials as one model: chosen from, averaged or trained on top of what a study left."""
