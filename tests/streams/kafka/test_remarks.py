"""What a worker says beside its commits is short, is read again, and hides no id of a topic."""

import pytest

from streams.kafka.fleet import BundleName, MemberBundles
from streams.kafka.metadata import DescribedTopic, marked_id
from streams.kafka.remarks import (
    EVERY,
    MAX_BYTES,
    MAX_CIRCUITS,
    NOTHING,
    Circuit,
    Remark,
    Remarks,
    Said,
    remark_in,
    written,
)

MARK = DescribedTopic(3, "of-now").mark
ONE = Circuit("a.example:443", 1_700_000_000_000, 2, 30)
BUNDLES = MemberBundles(BundleName("shop", "3.0.0", "abc"), BundleName("shop", "4.0.0", "def"))


class Speaker:
    """A worker whose clock the test moves."""

    def __init__(self) -> None:
        self.said, self.now = NOTHING, 0.0
        self.remarks = Remarks(lambda: self.said, clock=lambda: self.now)

    def heard(self) -> Remark | None:
        return remark_in(self.remarks() + MARK)


def test_a_worker_that_has_nothing_to_say_writes_nothing() -> None:
    assert Speaker().remarks() == ""


@pytest.mark.parametrize("said", [Said((ONE,)), Said(bundles=BUNDLES), Said((ONE, ONE), BUNDLES)])
def test_what_is_said_is_heard(said: Said) -> None:
    speaker = Speaker()
    speaker.said = said
    heard = speaker.heard()
    assert heard is not None
    assert (heard.circuits, heard.bundles) == (said.circuits, said.bundles)


def test_it_is_said_at_once_then_in_intervals_and_taken_back_at_the_end_of_one() -> None:
    speaker = Speaker()
    assert speaker.heard() is None
    speaker.said = Said((ONE,))
    first = speaker.heard()
    assert first is not None
    speaker.said = Said((ONE, ONE))
    assert speaker.heard() == first, "not before the interval ends"
    speaker.now += EVERY
    second = speaker.heard()
    assert second is not None
    assert (second.worker, second.number, len(second.circuits)) == (first.worker, first.number + 1, 2)
    speaker.said = NOTHING
    speaker.now += EVERY
    assert speaker.heard() is None


def test_the_same_is_said_anew_so_that_a_reader_knows_that_somebody_stands_behind_it() -> None:
    speaker = Speaker()
    speaker.said = Said((ONE,))
    texts: list[str] = []
    for _ in range(3):
        texts.append(speaker.remarks())
        speaker.now += EVERY
    assert len(set(texts)) == 3


@pytest.mark.parametrize("length", [10, 250])
def test_a_remark_is_bounded_whatever_the_hosts_are_called(length: int) -> None:
    circuits = tuple(Circuit(f"{number}-{'é' * length}:443", 1, 2, 3) for number in range(100))
    text = written(Remark(circuits))
    heard = remark_in(text)
    assert len(text.encode()) <= MAX_BYTES + 10
    assert heard is not None
    assert 0 < len(heard.circuits) <= MAX_CIRCUITS
    assert heard.circuits == circuits[: len(heard.circuits)]


def test_bundles_with_endless_names_are_not_said() -> None:
    name = BundleName("x" * MAX_BYTES, "1", "abc")
    assert written(Remark(bundles=MemberBundles(name))) == ""


@pytest.mark.parametrize("host", ["a.example:443", "topic-id=of-before", 'with " and space topic-id=x'])
def test_the_id_of_the_topic_is_found_behind_a_remark(host: str) -> None:
    text = written(Remark((Circuit(host, 1, 2, 3),)))
    assert marked_id(text + MARK) == "of-now"
    assert marked_id(text) == ""


IMPOSSIBLE = ["99999999999999999,1,1", "-1,1,1", "1,-1,1", "1,1,-1"]  # since, waiting, refused


@pytest.mark.parametrize(
    "text",
    [
        None, "", MARK, "of another tool", "says=", "says={", "says=[] ", 'says={"circuits":7} x',
        *(f'says={{"circuits":[["a.example:443",{numbers}]]}} x' for numbers in IMPOSSIBLE),
    ],
)  # fmt: skip
def test_text_that_is_no_remark_is_none(text: str | None) -> None:
    assert remark_in(text) is None


def test_a_worker_of_an_earlier_version_takes_the_text_for_one_without_an_id() -> None:
    """It would otherwise read the topic from its start: it compares what follows `topic-id=` at the start of the text."""
    assert not written(Remark((ONE,))).startswith("topic-id=")
