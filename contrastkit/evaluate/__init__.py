"""Judging an encoder: encode once, then look at the features."""
