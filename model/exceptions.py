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

    `reason` is short, stable, fit for a header or a metric's label:

    - `not_a_picture`: not one of the formats that are read, or a header that cannot be read.
    - `truncated_picture`: the header is whole, the pixels end early or are damaged.
    - `picture_too_large`: too many pixels, by the header; or too many bytes, in an archive.
    - `unreadable_picture`: a file, or a member of an archive, that cannot be read.
    - `picture_too_complex`: made of more parts, tables, scans or frames than a picture may cost.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
