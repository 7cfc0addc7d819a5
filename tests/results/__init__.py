"""Stored results, from records that are made by hand (`records.py`)."""
