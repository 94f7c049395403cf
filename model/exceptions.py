"""Root of the exception tree of tastestream. `streams.exceptions` extends the same tree.

    TastestreamError
    ├── BundleError            a model bundle is missing, damaged or inconsistent
    ├── PictureError           bytes cannot be embedded as a picture
    └── (streams.exceptions)   settings, topics, messages, fetching, the data folder, the broker

Each message names the thing at fault, its value, and what to do.
"""


class TastestreamError(Exception):
    """Base class of all exceptions that tastestream raises on purpose."""


class BundleError(TastestreamError):
    """A model bundle cannot be used: a file is missing, or a checksum or shape does not match."""


class PictureError(TastestreamError):
    """Bytes cannot be decoded to pixels safely.

    `reason` is short and stable, so it can be a header value or a metric label:

    - `not_a_picture`: the format is not supported, or the header cannot be read.
    - `truncated_picture`: the header is complete, but the pixel data ends early or is damaged.
    - `picture_too_large`: too many pixels according to the header, or too many bytes in an archive.
    - `missing_picture`: there is no such file, or no such member of an archive.
    - `unreadable_picture`: a file, or a member of an archive, cannot be read.
    - `picture_too_complex`: more parts, tables, scans or frames than the limits allow.
    - `picture_too_costly`, `decoder_crashed`: of the processes that decode for a worker (`streams.embed.decoding`).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
