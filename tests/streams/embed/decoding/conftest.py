"""Decoder processes with the limits of the defaults, for all tests of a module."""

from collections.abc import Generator

import pytest

from streams.embed.decoding.limits import DecoderLimits
from streams.embed.decoding.pool import DecoderPool, open_decoders
from streams.settings import Settings

DEFAULTS = DecoderLimits(
    Settings.model_fields["decoder_seconds"].default, Settings.model_fields["decoder_memory"].default
)


@pytest.fixture(scope="module")
def decoders() -> Generator[DecoderPool]:
    with open_decoders(DEFAULTS) as pool:
        yield pool
