"""Layers and helpers that two or more models share."""
