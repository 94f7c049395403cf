"""Settings of the bags: how many items one holds, and what each counts in a recommendation."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

from streams.settings.values import pairs

WeightedType = Literal["purchase", "cart", "view"]

DEFAULT_TYPE_WEIGHTS: dict[WeightedType, float] = {"purchase": 1.0, "cart": 0.6, "view": 0.3}
"""Weight of an interaction of each type in a bag, 0 to 1: a purchase says more about a taste than a view."""


class BagSettings(BaseSettings):
    """How much a bag holds, and how it is scored."""

    bag_size: int = Field(
        64,
        ge=1,
        description="Maximum number of items in a bag that are scored, newest first. It cannot be above MAX_SLOTS. "
        "Lower it if older items should not count.",
    )
    max_slots: int = Field(
        128,
        ge=1,
        description="Maximum number of items that are kept for a user, returned ones included. "
        "Raise it for longer histories; disk and recovery time grow with it.",
    )
    top_k: int = Field(
        10,
        ge=1,
        description="Maximum number of categories in a recommendation, and of items with their attention. "
        "Raise it if consumers need more.",
    )
    type_weights: Annotated[dict[WeightedType, float], NoDecode] = Field(
        default=DEFAULT_TYPE_WEIGHTS,
        description="Weight of each interaction type in a bag, 0 to 1, as purchase=1,cart=0.6,view=0.3. "
        "Change it if views say more, or less, about your shoppers.",
    )
    half_life: float | None = Field(
        None,
        gt=0,
        description="Seconds after which an item counts half; if unset or `none`, age does not count. "
        "Set it if tastes change quickly, for example to 7776000 for 90 days.",
    )

    @field_validator("type_weights", mode="before")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        return pairs(value)

    @field_validator("type_weights")
    @classmethod
    def _weights_between_0_and_1(cls, value: dict[str, float]) -> dict[str, float]:
        missing = [name for name in get_args(WeightedType) if name not in value]
        if missing:
            raise ValueError(f"a weight is missing for {', '.join(missing)}")
        for name, weight in value.items():
            if not 0 <= weight <= 1:
                raise ValueError(f"the weight of {name} is {weight}, but weights are between 0 and 1")
        return value

    @field_validator("half_life", mode="before")
    @classmethod
    def _no_half_life(cls, value: Any) -> Any:
        return None if value == "none" else value

    @model_validator(mode="after")
    def _scored_items_are_kept(self) -> Self:
        if self.bag_size > self.max_slots:
            raise ValueError(f"BAG_SIZE ({self.bag_size}) cannot be above MAX_SLOTS ({self.max_slots})")
        return self
