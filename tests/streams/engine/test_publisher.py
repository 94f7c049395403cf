"""Whatever keeps a record from the broker is a DeliveryError: no event is at fault, and a restart may help."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from faust.exceptions import NotReady

from streams.engine.publisher import Publisher
from streams.exceptions import DeliveryError


@pytest.mark.parametrize("error", [KafkaTimeoutError(), NotReady(), AssertionError("Unrecognized partition")], ids=repr)
async def test_a_record_that_cannot_be_sent_is_a_delivery_error(error: Exception) -> None:
    """aiokafka asserts that a partition exists. A topic that was created again may have fewer."""

    async def fail(*_: object, **__: object) -> None:
        raise error

    app: Any = SimpleNamespace(producer=SimpleNamespace(send=fail, send_batches=fail))
    with pytest.raises(DeliveryError, match="embedded-interactions"):
        await Publisher(app).send("embedded-interactions", b"ada", b"{}", partition=7)
    with pytest.raises(DeliveryError, match="embedded-interactions"):
        await Publisher(app).send_all("embedded-interactions", [(b"ada", b"{}", ())], partition=7)
