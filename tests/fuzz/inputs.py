"""Generates inputs for a target from its seeds, with Hypothesis: seeds with a few edits, joined seeds, and any bytes."""

from collections.abc import Sequence

from hypothesis import HealthCheck
from hypothesis import strategies as st

from tests.fuzz import MAX_LENGTH

INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x22, 0x2E)  # bytes: limits of numbers, line end, quote, dot

SLOW_IS_FINE = (HealthCheck.too_slow, HealthCheck.data_too_large)

_places = st.integers(0, MAX_LENGTH)
_edits = st.lists(
    st.tuples(
        st.sampled_from(["insert", "replace", "delete", "repeat"]),
        _places,
        st.integers(1, 16),
        st.binary(min_size=1, max_size=8) | st.sampled_from(INTERESTING).map(lambda one: bytes([one])),
    ),
    max_size=6,
)
Edit = tuple[str, int, int, bytes]


def inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Inputs near the seeds."""
    whole = st.sampled_from(seeds)
    joined = st.tuples(whole, _places, whole, _places).map(lambda one: one[0][: one[1]] + one[2][one[3] :])
    return st.tuples(whole | joined, _edits).map(lambda one: edited(*one)) | st.binary(max_size=64)


def edited(data: bytes, edits: Sequence[Edit]) -> bytes:
    """Apply edits. A place beyond the end counts from the start again."""
    for kind, place, count, content in edits:
        at = place % (len(data) + 1)
        if kind == "insert":
            data = data[:at] + content + data[at:]
        elif kind == "replace":
            data = data[:at] + content + data[at + len(content) :]
        elif kind == "delete":
            data = data[:at] + data[at + count :]
        else:
            data = data[:at] + data[at : at + count] * count + data[at:]
    return data[:MAX_LENGTH]
