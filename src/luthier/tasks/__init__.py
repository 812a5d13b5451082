"""One file a task. Nothing outside this folder asks which task it is."""
