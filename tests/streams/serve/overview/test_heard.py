"""What workers say counts as long as they go on saying it, and what several say of one host is joined."""

from datetime import UTC, datetime

from streams.kafka.remarks import EVERY, Circuit, Remark
from streams.serve.overview.heard import LISTED, SILENT, Heard
from tests.streams.serve.made import NOW

SILENCE = round(SILENT * EVERY * 1000)  # milliseconds


def remark(worker: str, number: int, *circuits: Circuit) -> Remark:
    return Remark(circuits, worker=worker, number=number)


def circuit(host: str, refused: int = 1, waiting: int = 0, since: int = NOW) -> Circuit:
    return Circuit(host, since, waiting, refused)


def test_a_worker_counts_until_it_has_been_silent_for_long() -> None:
    heard = Heard()
    heard.look(NOW, [remark("one", 1, circuit("a"))])
    heard.look(NOW + SILENCE, [remark("one", 1, circuit("a"))])
    assert [one.host for one in heard.circuits(NOW + SILENCE)] == ["a"]
    heard.look(NOW + SILENCE + 1, [remark("one", 1, circuit("a"))])
    assert heard.circuits(NOW + SILENCE + 1) == []
    heard.look(NOW + SILENCE + 2, [remark("one", 2, circuit("a"))])
    assert [one.host for one in heard.circuits(NOW + SILENCE + 2)] == ["a"]


def test_what_is_taken_back_is_gone_at_once() -> None:
    heard = Heard()
    heard.look(NOW, [remark("one", 1, circuit("a"))])
    heard.look(NOW + 1, [])
    assert heard.circuits(NOW + 1) == []


def test_only_the_newest_of_a_worker_counts_in_whatever_partition_it_is() -> None:
    heard = Heard()
    heard.look(NOW, [remark("one", 2, circuit("b")), remark("one", 2, circuit("b")), remark("one", 1, circuit("a"))])
    [found] = heard.circuits(NOW)
    assert (found.host, found.workers, found.refused) == ("b", 1, 1)


def test_what_several_workers_say_of_a_host_is_joined() -> None:
    heard = Heard()
    heard.look(
        NOW,
        [
            remark("one", 1, circuit("a", 5, 2, NOW - 1000), circuit("b", 1)),
            remark("two", 7, circuit("a", 4, 1, NOW - 9000)),
        ],
    )
    first, second = heard.circuits(NOW)
    assert (first.host, first.workers, first.refused, first.waiting) == ("a", 2, 9, 3)
    assert first.since == datetime.fromtimestamp((NOW - 9000) / 1000, UTC)
    assert second.host == "b"


def test_no_more_than_a_list_of_hosts() -> None:
    heard = Heard()
    heard.look(NOW, [remark(f"{n}", 1, *(circuit(f"{n}-{m}", m) for m in range(15))) for n in range(3)])
    found = heard.circuits(NOW)
    assert len(found) == LISTED
    assert found[0].refused == 14
