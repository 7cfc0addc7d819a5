"""Encoders, against networks that are made at home (`networks.py`)."""
