"""Measures what an aggregator costs: one call for a batch of users and one for a single user, on one core, by ONNX Runtime."""

import statistics
import time
from pathlib import Path

import numpy as np

from model.aggregator import Aggregator
from model.quantization import HEADER_BYTES
from model.sessions import open_session
from offline_training.comparison.results import Cost

USERS, ITEMS = 64, 32
"""Users of a batch, and items of each bag."""
CALLS = 50


def milliseconds(aggregator: Aggregator, users: int, calls: int) -> list[float]:
    """Measure `calls` calls for `users` users each, after a warm-up. Returns milliseconds."""
    rng = np.random.default_rng(0)
    embeddings = rng.random((users, ITEMS, aggregator.embedding_size), np.float32)
    log_weight = np.zeros((users, ITEMS), np.float32)
    times: list[float] = []
    for _ in range(calls + calls // 10):
        begun = time.perf_counter()
        aggregator.score(embeddings, log_weight)
        times.append((time.perf_counter() - begun) * 1000)
    return times[-calls:]


def state_bytes(embedding_size: int) -> int:
    """Return the size of an item's rounded row, bytes."""
    return HEADER_BYTES + embedding_size


def cost_of(path: Path, embedding_size: int, categories: int) -> Cost:
    """Measure an exported `aggregator.onnx`."""
    aggregator = Aggregator(open_session(path, 1), embedding_size, categories)
    batch, one = (statistics.median(milliseconds(aggregator, users, CALLS)) for users in (USERS, 1))
    return Cost(round(batch, 3), round(one, 4), state_bytes(embedding_size))
