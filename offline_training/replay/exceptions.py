"""The exception of a replay; the root is `model.exceptions.TastestreamError`."""

from model.exceptions import TastestreamError


class ReplayError(TastestreamError):
    """The replay cannot start or continue. The message says what is wrong and what to do."""
