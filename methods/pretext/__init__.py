"""Pretext: something that is known about an image, such as how it was turned, is told from it."""
