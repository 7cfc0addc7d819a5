"""Contrastive: an image's views are told from those of other images."""
