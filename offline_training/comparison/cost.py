"""What an aggregator costs: a call for a batch of users and for one user, on one core, by ONNX Runtime."""

import statistics
import time
from pathlib import Path

import numpy as np

from model.aggregator import Aggregator
from model.quantization import HEADER_BYTES
from model.sessions import open_session
from offline_training.comparison.results import Cost

USERS, ITEMS = 64, 32
"""Of a batch, and of each bag."""
CALLS = 50


def milliseconds(aggregator: Aggregator, users: int, calls: int) -> list[float]:
    """Of each call, warmed up."""
    chance = np.random.default_rng(0)
    embeddings = chance.random((users, ITEMS, aggregator.embedding_size), np.float32)
    log_weight = np.zeros((users, ITEMS), np.float32)
    times: list[float] = []
    for _ in range(calls + calls // 10):
        begun = time.perf_counter()
        aggregator.score(embeddings, log_weight)
        times.append((time.perf_counter() - begun) * 1000)
    return times[-calls:]


def state_bytes(embedding_size: int) -> int:
    """Of an item's rounded row."""
    return HEADER_BYTES + embedding_size


def cost_of(path: Path, embedding_size: int, categories: int) -> Cost:
    """Of an exported `aggregator.onnx`."""
    aggregator = Aggregator(open_session(path, 1), embedding_size, categories)
    batch, one = (statistics.median(milliseconds(aggregator, users, CALLS)) for users in (USERS, 1))
    return Cost(round(batch, 3), round(one, 4), state_bytes(embedding_size))
