"""One file a strategy. Knows recipes and numbers, never models or clocks."""
