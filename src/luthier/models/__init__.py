"""Pre-trained models: finding, loading, cutting and adapting them."""
