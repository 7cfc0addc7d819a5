"""Clustering: views predict the group of like images that an image falls into."""
