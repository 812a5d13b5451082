"""Fine-tuning as scikit-learn knows it: estimators over `tune` for texts and images, and over heads for features."""
