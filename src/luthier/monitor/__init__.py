"""Monitoring: what a served model sees and says, held against what it saw when it was tested."""
