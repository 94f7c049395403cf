"""Exceptions of embedder training."""

from model.exceptions import TastestreamError


class EmbedderError(TastestreamError):
    """Weights, pictures or options cannot train an embedder. The message says what was expected and found."""
