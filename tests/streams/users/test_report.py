"""What people read of a user."""

from datetime import UTC, datetime

from rich.console import Console

from streams.serve.api.types.users import BagEntry
from streams.users import report


def test_an_item_with_events_of_every_type_fits_into_80_columns() -> None:
    first, second = datetime(2014, 3, 1, tzinfo=UTC), datetime(2014, 3, 2, tzinfo=UTC)
    entry = BagEntry(
        item_id="twin-lens-reflex-camera",
        types={"cart": first, "purchase": second, "view": first},
        image_url="",
        scored=True,
        weight=0.33,
        not_scored=None,
    )
    console = Console(width=80)
    with console.capture() as shown:
        console.print(report.bag([entry]))
    assert [line.split() for line in shown.get().splitlines()] == [
        ["item", "events", "attention"],
        ["twin-lens-reflex-camera", "cart,", "view", "2014-03-01,", "purchase", "2014-03-02", "33%"],
    ]
