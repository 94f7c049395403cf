"""What may go wrong with a replay; the root is `model.exceptions.TastestreamError`."""

from model.exceptions import TastestreamError


class ReplayError(TastestreamError):
    """The replay cannot begin or go on; the message says what is off and what to do."""
