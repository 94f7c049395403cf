"""`CodeIndex`: exact search by cosine over quantized codes, in memory. Not for approximate search: its recall is 1.

Each query is rounded to whole numbers in two parts of eight bits, so that one integer product of ONNX Runtime compares it
with all codes. The rounding moves no cosine by more than a bound that is known. Every item within the bound of the best is
compared again in float64. `docs/design/items.md` has what else was tried, and the times.
"""

import threading
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model.quantization import HEADER_BYTES, dequantize, is_finite

BLOCK = 16_384  # items: a change copies the blocks that it touches, 2 MB each for codes of 128 numbers
QUERIES = 8  # at once: the product takes 16 columns in the time of 8
SAMPLE = 2048  # items of the first block by which a query passes over the most of it; a quarter of a block is more
_PART = 128  # of the second part of a query, in units of the first
_WHOLE = 63 * _PART  # largest number of a query: parts stay within 64. Two products of a byte and 64 fit 16 bits,
# in which processors without VNNI instructions add them up, and saturate
_FLOAT32, _UINT8, _INT8, _INTEGER = 1, 2, 3, 2  # types of tensors, and of an attribute, in onnx.proto
_ROUNDING = 5e-7  # of one float32 operation of a few, relative to its operands
_LEAST = 1e-18  # length of a code below which it has no direction
_ABSENT = np.float32(-1)
_TOLERANCE = 0.99  # of rounding: how much shorter than its largest number a code may be


class Found(NamedTuple):
    """The most similar items of each query, best first; of equal ones the lowest place first."""

    places: NDArray[np.intp]  # [Q,k]
    cosines: NDArray[np.float32]  # [Q,k]


class _Block(NamedTuple):
    """Some rows. Nobody changes the arrays of a block that a search may see."""

    levels: NDArray[np.uint8]  # [B,d]
    lo: NDArray[np.float32]  # [B]
    scale: NDArray[np.float32]  # [B]
    inverse: NDArray[np.float32]  # [B]: 1 / length; 0 for a code without direction, `_ABSENT` where there is no item

    @property
    def present(self) -> NDArray[np.bool_]:
        """Where there is an item, [B]."""
        return self.inverse != _ABSENT


class CodeIndex:
    """The codes of a catalogue by place, a number from 0. It takes d + 12 bytes for each item.

    A code shorter than 1e-18 has no direction: its cosine is 0, as is that of such a query.

    Threads may search while one of them, or several, put and remove. A change copies the blocks that it touches, and puts
    the copies in the place of the old ones in one assignment. A search works on the blocks of its begin. So it sees all of a
    change or nothing, and a place never has one half of a code and the other half of another.

    Args:
        size: numbers in a code, d.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._blocks: tuple[_Block, ...] = ()
        self._changing = threading.Lock()
        self._product = _open_product(size)

    def __repr__(self) -> str:
        return f"CodeIndex(size={self.size}, items={len(self)})"

    def __len__(self) -> int:
        """The number of items."""
        return sum(int(block.present.sum()) for block in self._blocks)

    def put(self, places: NDArray[np.intp], rows: Sequence[bytes]) -> None:
        """Put codes at places, over what is there. Of a place that comes twice the last code counts.

        Args:
            places: intp [n], from 0.
            rows: n codes, as `model.quantization` encodes them.

        Raises:
            ValueError: a row has another length, is not finite, or is not encoded so. Then nothing is put.
        """
        if len(places) != len(rows) or (len(places) and places.min() < 0):
            raise ValueError(f"expected a place from 0 for each of {len(rows)} codes, found {len(places)} places")
        if not len(places):
            return
        for number, row in enumerate(rows):
            if len(row) != HEADER_BYTES + self.size or not is_finite(row):
                raise _not_a_code(number, rows, self.size)
        values = dequantize(rows, self.size).astype(np.float64)
        table = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)
        ranges = table[:, :HEADER_BYTES].copy().view("<f4").astype(np.float32)
        length = np.sqrt((values * values).sum(axis=1))
        ends = ranges.astype(np.float64) @ np.array([[1.0, 1.0], [0.0, 255.0]])
        largest = np.abs(ends).max(axis=1)
        fits = (length >= _TOLERANCE * largest) | (largest < _LEAST)  # a code has its least and its largest value
        if not fits.all():
            raise _not_a_code(int(fits.argmin()), rows, self.size)
        inverse = np.divide(1.0, length, out=np.zeros_like(length), where=length >= _LEAST).astype(np.float32)
        with self._changing:
            blocks = list(self._blocks)
            while len(blocks) * BLOCK <= places.max():
                blocks.append(_empty(self.size))
            for number, chosen in _by_block(places):
                block = blocks[number] = _copied(blocks[number])
                at = places[chosen] - number * BLOCK
                block.levels[at] = table[chosen, HEADER_BYTES:]
                block.lo[at], block.scale[at] = ranges[chosen].T
                block.inverse[at] = inverse[chosen]
            self._blocks = tuple(blocks)

    def remove(self, places: NDArray[np.intp]) -> None:
        """Take the codes away from places. A place without a code stays so."""
        with self._changing:
            blocks = list(self._blocks)
            for number, chosen in _by_block(places[(places >= 0) & (places < len(blocks) * BLOCK)]):
                inside = places[(places >= 0) & (places < len(blocks) * BLOCK)][chosen] - number * BLOCK
                inverse = blocks[number].inverse.copy()
                inverse[inside] = _ABSENT
                blocks[number] = blocks[number]._replace(inverse=inverse)
            self._blocks = tuple(blocks)

    def rows(self, places: NDArray[np.intp]) -> list[bytes]:
        """The codes at places, as they were put. Where there is none, what was there last, or zeros.

        Raises:
            IndexError: nothing was ever put so far behind.
        """
        blocks = self._blocks
        table = np.empty((len(places), HEADER_BYTES + self.size), np.uint8)
        ranges = np.empty((len(places), 2), "<f4")
        for number, chosen in _by_block(places):
            block, at = blocks[number], places[chosen] - number * BLOCK
            table[chosen, HEADER_BYTES:] = block.levels[at]
            ranges[chosen, 0], ranges[chosen, 1] = block.lo[at], block.scale[at]
        table[:, :HEADER_BYTES] = ranges.view(np.uint8)
        together, width = table.tobytes(), table.shape[1]
        return [together[start : start + width] for start in range(0, len(together), width)]

    def search(self, queries: NDArray[np.float32], count: int, mask: NDArray[np.bool_] | None = None) -> Found:
        """Find the `count` items of the highest cosine, exactly.

        Args:
            queries: float32 [Q, d], of any length. A query of zeros has the cosine 0 with everything.
            count: k, most items for each query. Fewer where fewer are there.
            mask: bool [N], the places that may be found. Those behind its end may not. None: all.

        Raises:
            ValueError: the queries have another shape or are not finite, or `count` is below 0.
        """
        if queries.ndim != 2 or queries.shape[1] != self.size or not np.isfinite(queries).all() or count < 0:
            raise ValueError(
                f"expected finite queries [Q, {self.size}] and a count from 0, found {queries.shape} and {count}"
            )
        blocks = self._blocks
        allowed = [_allowed(block, mask, number) for number, block in enumerate(blocks)]
        count = min(count, sum(int(some.sum()) for some in allowed))
        found = Found(np.empty((len(queries), count), np.intp), np.empty((len(queries), count), np.float32))
        if not count:
            return found
        for start in range(0, len(queries), QUERIES):
            some = slice(start, start + QUERIES)
            units = _units(queries[some])
            for number, near in enumerate(self._near(units, count, blocks, allowed), start):
                cosines = _cosines(units[number - start], near, blocks, self.size)
                order = np.lexsort((near, -cosines))[:count]
                found.places[number], found.cosines[number] = near[order], cosines[order]
        return found

    def _near(
        self,
        units: NDArray[np.float64],
        count: int,
        blocks: Sequence[_Block],
        allowed: Sequence[NDArray[np.bool_]],
    ) -> list[NDArray[np.intp]]:
        """For each query, [Q,d] of length 1 or 0, all places that can be among the best `count`."""
        parts, combine, error = _rounded(units)
        error = 2 * (error + _ROUNDING * (4 * np.sqrt(self.size) + 8))  # between two items
        sums = units.sum(axis=1).astype(np.float32)[:, None]
        least = np.full(len(units), -np.inf, np.float32)  # what an item needs to be near
        kept = [_Near(count, float(one)) for one in error]
        for number, (block, may) in enumerate(zip(blocks, allowed, strict=True)):
            total = np.count_nonzero(may)
            if not total:
                continue
            rows = None if 4 * total > BLOCK else np.flatnonzero(may)  # of few, only those are compared
            levels, slope, offset = block.levels, block.scale * block.inverse, block.lo * block.inverse
            if rows is not None:
                levels, slope, offset = levels[rows], slope[rows], offset[rows]
            given = {"codes": levels, "parts": parts, "combine": combine}
            cosines = cast("NDArray[np.float32]", self._product.run(None, given)[0])  # [Q,B]
            cosines *= slope
            cosines += sums * offset
            if rows is None and count <= SAMPLE and least[0] == -np.inf:
                some = cosines[:, np.flatnonzero(may)[:SAMPLE]]
                least = np.partition(some, -count, axis=1)[:, -count] - error.astype(np.float32)
            best = cosines.max(axis=1)
            for query in np.flatnonzero(best >= least).tolist():
                own = cosines[query]
                hits = np.flatnonzero(own >= least[query])
                if rows is None:
                    hits = hits[may[hits]]
                if not len(hits):
                    continue
                places = (hits if rows is None else rows[hits]) + number * BLOCK
                least[query] = kept[query].add(places, own[hits])
        return [one.places() for one in kept]


class _Near:
    """The items so far that can be among the best `count` of a query."""

    def __init__(self, count: int, error: float) -> None:
        self._count, self._error = count, error
        self._least = -np.inf
        self._parts: list[tuple[NDArray[np.intp], NDArray[np.float32]]] = []
        self._new = 0  # items since the last selection: one for each block would take longer than the product

    def add(self, places: NDArray[np.intp], cosines: NDArray[np.float32]) -> float:
        """Add items. Returns the cosine that an item needs from now on."""
        self._parts.append((places, cosines))
        self._new += len(places)
        if self._new >= self._count:
            self._select()
        return self._least

    def places(self) -> NDArray[np.intp]:
        """The places of all of them."""
        self._select()
        return self._parts[0][0]

    def _select(self) -> None:
        places, cosines = (np.concatenate(arrays) for arrays in zip(*self._parts, strict=True))
        if len(cosines) >= self._count:
            self._least = float(np.partition(cosines, -self._count)[-self._count]) - self._error
        near = cosines >= self._least
        self._parts, self._new = [(places[near], cosines[near])], 0


def _not_a_code(number: int, rows: Sequence[bytes], size: int) -> ValueError:
    return ValueError(
        f"code {number} of {len(rows)}: expected {HEADER_BYTES + size} bytes that `model.quantization` made of {size} finite "
        f"numbers, found {len(rows[number])} bytes: {rows[number][: HEADER_BYTES + 4].hex()}..."
    )


def _units(queries: NDArray[np.float32]) -> NDArray[np.float64]:
    """Queries of length 1, or 0."""
    wide = queries.astype(np.float64)
    length = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    return np.divide(wide, length, out=np.zeros_like(wide), where=length >= _LEAST)


def _rounded(units: NDArray[np.float64]) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float64]]:
    """Round queries to two parts of eight bits.

    Returns:
        The parts, int8 [d, 2Q]; what makes the product with a query of the products with its parts, float32 [Q, 2Q]; and the
        length of the error of each query, [Q]: no cosine moves by more (Cauchy and Schwarz).
    """
    step = np.abs(units).max(axis=1, keepdims=True) / _WHOLE
    step[step == 0] = 1
    whole = np.rint(units / step).astype(np.int64)
    first = (whole + _PART // 2) // _PART
    parts = np.concatenate([first, whole - first * _PART]).T.astype(np.int8)
    combine = np.concatenate([np.diag(step[:, 0] * _PART), np.diag(step[:, 0])], axis=1).astype(np.float32)
    error = units - whole * step
    return np.ascontiguousarray(parts), combine, np.sqrt((error * error).sum(axis=1))


def _cosines(
    unit: NDArray[np.float64], places: NDArray[np.intp], blocks: Sequence[_Block], size: int
) -> NDArray[np.float64]:
    """The cosines of a query with the items at some places. Equal codes have equal cosines, wherever they are."""
    found = np.empty(len(places))
    for start in range(0, len(places), BLOCK):
        some = places[start : start + BLOCK]
        levels, lo, scale = np.empty((len(some), size), np.float32), *np.empty((2, len(some), 1), np.float32)
        for number, chosen in _by_block(some):
            at = some[chosen] - number * BLOCK
            block = blocks[number]
            levels[chosen], lo[chosen, 0], scale[chosen, 0] = block.levels[at], block.lo[at], block.scale[at]
        levels *= scale  # as `dequantize` restores them
        levels += lo
        values = levels.astype(np.float64)
        length = np.sqrt((values * values).sum(axis=1))
        dots = (values * unit).sum(axis=1)
        found[start : start + BLOCK] = np.divide(dots, length, out=np.zeros_like(dots), where=length >= _LEAST)
    return found


def _allowed(block: _Block, mask: NDArray[np.bool_] | None, number: int) -> NDArray[np.bool_]:
    if mask is None:
        return block.present
    own = mask[number * BLOCK : (number + 1) * BLOCK]
    found = block.present
    found[: len(own)] &= own
    found[len(own) :] = False
    return found


def _by_block(places: NDArray[np.intp]) -> list[tuple[int, NDArray[np.intp]]]:
    """The number of each block that has a place, with where its places are in `places`, in their order."""
    if not len(places):
        return []
    numbers = places // BLOCK
    if (numbers == numbers[0]).all():  # of few they mostly are, and the rest takes several times as long
        return [(int(numbers[0]), np.arange(len(places)))]
    order = np.argsort(numbers, kind="stable")
    found, starts = np.unique(numbers[order], return_index=True)
    return list(zip(found.tolist(), np.split(order, starts[1:]), strict=True))


def _empty(size: int) -> _Block:
    nothing = np.zeros(BLOCK, np.float32)
    return _Block(np.zeros((BLOCK, size), np.uint8), nothing, nothing, nothing + _ABSENT)


def _copied(block: _Block) -> _Block:
    return _Block(block.levels.copy(), block.lo.copy(), block.scale.copy(), block.inverse.copy())


def _open_product(size: int) -> onnxruntime.InferenceSession:
    """Open the product of queries with codes. It takes one thread, unlike one of NumPy.

    codes uint8 [n, d], parts int8 [d, p], combine float32 [Q, p] -> products float32 [Q, n]
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(_network(size), options, providers=["CPUExecutionProvider"])


def _network(size: int) -> bytes:
    """The network as protobuf, by onnx.proto: the run-time install has no package `onnx`."""

    def part(number: int, content: bytes | str | int) -> bytes:
        if isinstance(content, int):
            return _varint(number << 3) + _varint(content)
        data = content.encode() if isinstance(content, str) else content
        return _varint(number << 3 | 2) + _varint(len(data)) + data

    def node(operator: str, inputs: str, output: str, **attributes: int) -> bytes:
        found = b"".join(part(1, name) for name in inputs.split()) + part(2, output) + part(4, operator)
        for name, value in attributes.items():
            found += part(5, part(1, name) + part(3, value) + part(20, _INTEGER))
        return part(1, found)

    def value(name: str, kind: int, *shape: str | int) -> bytes:
        axes = b"".join(part(1, part(1 if isinstance(axis, int) else 2, axis)) for axis in shape)
        return part(1, name) + part(2, part(1, part(1, kind) + part(2, axes)))

    graph = node("MatMulInteger", "codes parts", "whole") + node("Cast", "whole", "number", to=_FLOAT32)
    graph += node("Gemm", "combine number", "products", transB=1) + part(2, "search")
    graph += part(11, value("codes", _UINT8, "n", size)) + part(11, value("parts", _INT8, size, "p"))
    graph += part(11, value("combine", _FLOAT32, "q", "p")) + part(12, value("products", _FLOAT32, "q", "n"))
    return part(1, 8) + part(7, graph) + part(8, part(2, 13))  # IR version 8, operators of version 13


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])
