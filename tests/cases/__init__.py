"""Data of other people: what went wrong, drawn small (`draw.py`), and what is right."""
