"""Estimators for scikit-learn: over whole runs for texts and images, over linear heads for features."""
