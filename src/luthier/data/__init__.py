"""Reading, checking and splitting labelled data. Knows tables, files and splits; not tasks, models or tensors."""
