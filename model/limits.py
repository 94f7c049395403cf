"""How large a picture may be. Imports nothing, so that the settings can name these numbers without loading a decoder."""

MAX_PICTURE_BYTES = 10 * 1024**2
"""Bytes of one picture: a JPEG of a 24-megapixel camera fits."""

MAX_PIXELS = 25_000_000
"""Pixels of one picture: a photo of a 24-megapixel camera fits. The costliest files of this size take 2.5 s of a core
and 420 MB (a WebP with transparency: libwebp, Pillow and the resizing each hold a copy); `python -m tests.model.costly_pictures`
measures both."""
