"""Adapters: from the embeddings of an older bundle to those of a new one, for pictures that are gone.

fitting.py    the methods, each from pairs of embeddings to a small network
pairs.py      the embeddings of a catalogue's pictures by both bundles
choosing.py   the method that serves held-out users best, and what it costs them
"""
