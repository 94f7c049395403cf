"""Records of `picture-features`. Pure.

key     version of the network that made the features | 0x00 | URL of the picture (UTF-8)
value   MessagePack array: when they were made, the features; null where the features are to be forgotten
"""

import msgspec
from msgspec import Struct

from model.bundle import Bundle

_END = b"\x00"  # of the version


class Features(Struct, frozen=True, array_like=True):
    """What a network made of a picture."""

    made_at: int  # milliseconds since the epoch
    row: bytes  # as `model.embedder.Backbone.features` returns it


encode_features = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Features)


def features_version(bundle: Bundle) -> str:
    """What identifies the features of a bundle: its backbone. The features of an early bundle are its embeddings."""
    return bundle.backbone_version or bundle.embedder_version


def features_key(version: str, url: str) -> bytes:
    """The key of the features that a network made of the picture at a URL."""
    return version.encode() + _END + url.encode()


def parsed_key(key: bytes) -> tuple[str, str] | None:
    """Version and URL of a key; None if it is none."""
    version, end, url = key.partition(_END)
    try:
        return (version.decode(), url.decode()) if version and end and url else None
    except UnicodeDecodeError:
        return None


def decode_features(value: bytes) -> Features:
    """The features in a value. Raises msgspec.DecodeError."""
    return _decoder.decode(value)
