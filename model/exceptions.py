"""The one tree of exceptions of tastestream. `streams.exceptions` grows from the same root.

    TastestreamError
    ├── BundleError            a model bundle that is missing, damaged, or does not fit itself
    ├── PictureError           bytes that are not a picture that may be embedded
    └── (streams.exceptions)   settings, topics, messages, fetching, the data folder, the broker

Every message names the thing at fault, its value, and what to do about it.
"""


class TastestreamError(Exception):
    """Root of everything that tastestream raises on purpose."""


class BundleError(TastestreamError):
    """A model bundle cannot be used: a file is missing, a checksum or a shape is off."""


class PictureError(TastestreamError):
    """Bytes that cannot be turned into pixels safely.

    `reason` is one of `not_a_picture`, `truncated_picture`, `picture_too_large`: short, stable, fit for a header or a metric's label.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
