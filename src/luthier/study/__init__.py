"""Joins search and engine under a budget, and keeps what happened in a store."""
