"""Values with limits, which many answers have. Pure."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

Weight = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]
Time = Annotated[datetime, Meta(tz=True)]
