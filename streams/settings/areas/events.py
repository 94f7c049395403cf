"""Settings of the events that workers take in: how many bytes at a time, and of which times."""

from datetime import UTC, date, datetime, time

from pydantic import Field
from pydantic_settings import BaseSettings


class EventSettings(BaseSettings):
    """Which events are taken, and how much memory those take that wait."""

    intake_memory: int = Field(
        16 * 1024**2,
        ge=1024**2,
        description="Maximum size of the records that a worker has read and not finished, in bytes, in equal shares for its "
        "partitions; as much again is fetched ahead. A record that is larger than a share is read by itself. "
        "Raise it if events of many kilobytes wait although the processor is idle.",
    )
    earliest_date: date = Field(
        date(1990, 1, 1),
        ge=date(1970, 1, 1),
        description="Date, UTC, before which the timestamp of an event is refused: such an event becomes a dead letter. "
        "Timestamps in seconds instead of milliseconds lie in 1970. Move it back if your history is older.",
    )
    max_future: float = Field(
        300.0,
        ge=0,
        description="Maximum seconds that the timestamp of an event may be ahead of the clock; "
        "an event further ahead becomes a dead letter. Raise it if the clocks of producers are wrong: whoever may produce can "
        "fill or empty a bag for that long, because newer events win.",
    )

    @property
    def earliest(self) -> int:
        """The beginning of EARLIEST_DATE, milliseconds since the epoch."""
        return round(datetime.combine(self.earliest_date, time(), UTC).timestamp() * 1000)
