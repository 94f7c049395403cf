"""Nothing leaves the producer without the guard's consent."""

from types import SimpleNamespace
from typing import Any

import pytest

from streams.engine.producer import guard_client


async def test_each_request_asks_first_and_does_not_leave_when_the_answer_is_no() -> None:
    sent: list[int] = []
    allowed = [True]

    async def send(node: int, request: object) -> str:
        sent.append(node)
        return "answer"

    def before_send() -> None:
        if not allowed[0]:
            raise SystemExit

    producer: Any = SimpleNamespace(client=SimpleNamespace(send=send))
    guard_client(producer, before_send)

    assert await producer.client.send(1, "request") == "answer"
    allowed[0] = False
    with pytest.raises(SystemExit):
        await producer.client.send(2, "request")
    assert sent == [1]
