"""Hosts share the time of the decoders equally, whatever their pictures cost."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.embed.decoding import turns
from streams.embed.decoding.turns import Turns


class Decoders:
    """Decoders in simulated time. A picture is its cost, seconds."""

    def __init__(self, count: int) -> None:
        self.now = 0.0
        self.turns = Turns[float](lambda: self.now)
        self.done: list[tuple[float, str]] = []  # when a picture was ready, and its host
        self._count = count
        self._busy: list[tuple[float, str]] = []
        self._waiting = 0

    def put(self, host: str, *costs: float) -> None:
        for cost in costs:
            self.turns.put(host, cost)
            self._waiting += 1
        self._fill()

    def run(self, until: float = float("inf")) -> None:
        """Decode until this time, or until nothing is left."""
        while self._busy and min(self._busy)[0] <= until:
            end, host = min(self._busy)
            self.now = end
            self._busy.remove((end, host))
            self.turns.end(host)
            self.done.append((end, host))
            self._fill()
        self.now = until if until < float("inf") else self.now

    def last(self, host: str) -> float:
        return max(end for end, name in self.done if name == host)

    def _fill(self) -> None:
        while self._waiting and len(self._busy) < self._count:
            host, cost = self.turns.take()
            self._waiting -= 1
            self._busy.append((self.now + cost, host))


@pytest.mark.parametrize("costly_first", [True, False])
def test_a_host_with_costly_pictures_delays_those_of_another_by_one_picture(costly_first: bool) -> None:
    decoders = Decoders(2)
    for host in ("costly", "good") if costly_first else ("good", "costly"):
        decoders.put(host, *([5.0] * 20 if host == "costly" else [0.01] * 100))
    decoders.run()
    assert decoders.last("good") < 5.0 + 100 * 0.01
    assert decoders.last("costly") == pytest.approx(10 * 5.0, abs=6)


def test_a_host_that_comes_later_gets_its_share_at_once_and_no_more() -> None:
    decoders = Decoders(1)
    decoders.put("early", *[1.0] * 100)
    decoders.run(until=20)
    decoders.put("late", *[1.0] * 100)
    decoders.run(until=40)
    later = Counter(host for end, host in decoders.done if end > 21)
    assert abs(later["early"] - later["late"]) <= 1


def test_a_host_that_goes_and_comes_back_has_not_had_less() -> None:
    decoders = Decoders(1)
    decoders.put("good", *[0.1] * 1000)
    for _ in range(10):  # one picture at a time, the next when it is decoded
        decoders.put("costly", 5.0)
        had = len(decoders.done)
        while "costly" not in {host for _, host in decoders.done[had:]}:
            decoders.run(until=decoders.now + 0.1)
    held = Counter(host for _, host in decoders.done)
    assert held["good"] * 0.1 > 0.8 * held["costly"] * 5.0 - 5.0


def test_hosts_that_are_ever_new_leave_a_known_host_its_share() -> None:
    decoders = Decoders(1)
    decoders.put("good", *[0.1] * 20)
    for number in range(10):
        decoders.put(f"new-{number}", 0.1)
    for number in range(10, 600):
        decoders.run(until=decoders.now + 0.1)
        decoders.put(f"new-{number}", 0.1)
    assert sum(host == "good" for _, host in decoders.done) == 20


def test_a_bounded_number_of_hosts_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "KNOWN_HOSTS", 5)
    decoders = Decoders(2)
    decoders.put("other", *[1.0] * 50)
    for number in range(20):
        decoders.put(f"host-{number}", 1.0)
    decoders.run()
    assert not decoders.turns._hosts
    assert len(decoders.turns._ahead) <= 5


@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 5), st.floats(0, 1)), max_size=40),
)
def test_every_picture_is_taken_once_and_those_of_a_host_in_their_order(
    count: int, put: list[tuple[str, float, float]]
) -> None:
    decoders = Decoders(count)
    for host, cost, pause in put:
        decoders.put(host, cost)
        decoders.run(until=decoders.now + pause)
    decoders.run()
    assert Counter(host for _, host in decoders.done) == Counter(host for host, _, _ in put)
    assert not decoders.turns._hosts and not decoders.turns.clear()
