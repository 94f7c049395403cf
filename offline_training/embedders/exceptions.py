"""What the training of an embedder raises on purpose."""

from model.exceptions import TastestreamError


class EmbedderError(TastestreamError):
    """Weights, pictures or options from which no embedder can be trained; the message says what was expected and found."""
