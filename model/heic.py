"""The optional decoder of HEIC, the format of photos of phones: pi-heif, libheif and libde265 (extra `heic`).

It needs threads, which the decoder processes of the workers may not start. So `tastestream taste` alone uses it.
"""

import importlib.util

from model.preprocessing import DECODERS, Decoder


def has_heic() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("pi_heif") is not None


def decoders_with_heic() -> dict[str, Decoder]:
    """The decoders of `model.preprocessing`, and that of HEIC if the extra is installed. Imports all that decoding needs."""
    if not has_heic():
        return dict(DECODERS)
    from pi_heif import options  # noqa: PLC0415 -- optional
    from pi_heif.as_plugin import HeifImageFile  # noqa: PLC0415

    options.DECODE_THREADS = 1
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    return {**DECODERS, "HEIC": HeifImageFile}
