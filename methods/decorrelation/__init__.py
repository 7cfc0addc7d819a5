"""Decorrelation and distribution matching: the dimensions of an embedding are kept from saying the same."""
