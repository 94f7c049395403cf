"""What requests ask for: parameters and bodies, with their limits. Pure."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from streams.messages import EventId, ImageUrl, ItemId, UserId
from streams.serve.api.types.taste import PicturedType
from streams.serve.interface import Listing

MAX_K, MAX_ITEMS = 100, 200  # categories and items in an answer
MAX_USERS = 100  # in one request
MAX_CANDIDATES = 1_000  # items to rank in one request
MAX_PICTURES = 64
MAX_LISTED = 48  # items of the catalogue in an answer, each with the item that is most like it
MAX_GROUPS = 24  # of items with the same picture, in an answer
MAX_EVENTS = 500  # in one request
MAX_WAIT = 5_000  # milliseconds
MAX_PRICE = 1e12
MAX_LETTERS = 500  # in one request

Category = Annotated[str, Meta(min_length=1, max_length=256, description="a category of the bundle")]

K = Annotated[
    int, Meta(ge=1, le=MAX_K, description="number of categories, and of items with their attention; TOP_K if missing")
]
Items = Annotated[int, Meta(ge=0, le=MAX_ITEMS, description="number of items to recommend")]

# -- parameters


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


class ItemFilter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which items may be named."""

    category: (
        Annotated[Category, Meta(description="only items of this category, which the catalogue names")] | UnsetType
    ) = UNSET
    in_stock: Annotated[bool, Meta(description="only items in stock")] = False
    price_max: (
        Annotated[float, Meta(ge=0, le=MAX_PRICE, description="only items of this price at most")] | UnsetType
    ) = UNSET


class TasteQuery(ItemFilter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to say of a taste."""

    exclude: Annotated[
        Literal["bag", "nothing"], Meta(description="bag: no item that is in the bag, returned ones included")
    ] = "bag"
    diversity: Annotated[
        float, Meta(ge=0, le=1, description="0: the best items; higher: items that differ more from each other")
    ] = 0.3
    k: K | UnsetType = UNSET
    items: Items = 0


class RecommendationQuery(TasteQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to recommend, and when."""

    at: Annotated[
        Literal["now", "event"],
        Meta(
            description="the moment: now, or that of the newest event, as on the topic; they differ with a trend only"
        ),
    ] = "now"
    event_id: Annotated[EventId, Meta(description="wait until this event is in the bag")] | UnsetType = UNSET
    wait_ms: Annotated[int, Meta(ge=0, le=MAX_WAIT, description="how long to wait for `event_id`, milliseconds")] = 0


class UserQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much to show of a user."""

    k: K | UnsetType = UNSET


class ExplanationQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to explain: a category or an item."""

    category: Category | UnsetType = UNSET
    item: ItemId | UnsetType = UNSET


class WithoutQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which item of the bag to leave out."""

    item: Annotated[ItemId, Meta(description="an item of the bag")]
    k: K | UnsetType = UNSET


class SimilarQuery(ItemFilter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many similar items, and which."""

    n: Annotated[int, Meta(ge=1, le=MAX_ITEMS, description="number of items")] = 12


class ListingQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which items of the catalogue."""

    which: Annotated[
        Listing,
        Meta(
            description="new: of the topic `items`, the newest first; held: those that most bags hold; without_picture: of the "
            "topic, but their pictures are not known, so they are not recommended"
        ),
    ] = "new"
    n: Annotated[int, Meta(ge=1, le=MAX_LISTED, description="number of items")] = 24


class ArrivalsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many of the newest items."""

    n: Annotated[int, Meta(ge=1, le=MAX_LISTED, description="number of items")] = 24


class DuplicatesQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which groups of items."""

    start: Annotated[int, Meta(ge=0, le=2**31 - 1, description="groups that are passed over")] = 0
    n: Annotated[int, Meta(ge=1, le=MAX_GROUPS, description="number of groups")] = 12


class ErasureQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which erasure."""

    until: Annotated[int, Meta(ge=0, le=253_402_300_799_999, description="its timestamp, milliseconds since 1970")]


class StreamQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose changes."""

    user_id: Annotated[UserId, Meta(description="only changes of this user")] | UnsetType = UNSET


class OverviewQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of the last hour."""

    seconds: Annotated[int, Meta(ge=0, le=3600, description="seconds of the past")] = 3600
    step: Annotated[int, Meta(ge=1, le=600, description="seconds that are joined")] = 10


class LettersQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters."""

    reason: Annotated[str, Meta(min_length=1, max_length=64, description="only of this reason")] | UnsetType = UNSET
    host: (
        Annotated[str, Meta(min_length=1, max_length=253, description="only with a picture of this host")] | UnsetType
    ) = UNSET
    topic: (
        Annotated[str, Meta(min_length=1, max_length=249, description="only of events of this topic")] | UnsetType
    ) = UNSET
    user_id: Annotated[UserId, Meta(description="only of this user")] | UnsetType = UNSET
    since: (
        Annotated[datetime, Meta(tz=True, description="only from this time on; the last 24 hours if missing")]
        | UnsetType
    ) = UNSET
    until: Annotated[datetime, Meta(tz=True, description="only before this time")] | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=MAX_LETTERS, description="only the newest of these")] = 50


# -- bodies


class LetterPlace(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a dead letter is."""

    partition: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Redrive(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dead letters whose events are to be sent again: single ones, or those that meet all conditions that are given."""

    letters: Annotated[list[LetterPlace], Meta(max_length=MAX_LETTERS)] = []
    reason: Annotated[str, Meta(min_length=1, max_length=64)] | UnsetType = UNSET
    host: Annotated[str, Meta(min_length=1, max_length=253)] | UnsetType = UNSET
    topic: Annotated[str, Meta(min_length=1, max_length=249)] | UnsetType = UNSET
    user_id: UserId | UnsetType = UNSET
    since: Annotated[datetime, Meta(tz=True)] | UnsetType = UNSET
    until: Annotated[datetime, Meta(tz=True)] | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=MAX_LETTERS, description="only the newest of these")] = 50
    max_attempts: Annotated[int, Meta(ge=1, le=100, description="times that an event is sent again at most")] = 3
    dry_run: Annotated[bool, Meta(description="say what would be sent, and send nothing")] = True


class Candidates(Struct, frozen=True, forbid_unknown_fields=True):
    """Items to rank for a user."""

    items: Annotated[list[ItemId], Meta(min_length=1, max_length=MAX_CANDIDATES)]


class UserList(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Users to recommend to, all with the same parameters."""

    users: Annotated[list[UserId], Meta(min_length=1, max_length=MAX_USERS)]
    k: K | UnsetType = UNSET
    items: Items = 0


class PictureUrl(Struct, frozen=True, forbid_unknown_fields=True):
    """A picture on the web, and what somebody did with it."""

    url: ImageUrl
    type: Annotated[PicturedType, Meta(description="a purchase says more than a view")] = "view"


class PictureList(Struct, frozen=True, forbid_unknown_fields=True):
    """Pictures on the web."""

    pictures: Annotated[list[PictureUrl], Meta(min_length=1, max_length=MAX_PICTURES)]


class PictureForm(Struct, frozen=True, forbid_unknown_fields=True):
    """Pictures as form fields. The name of a field is the type; a field is a file, or a URL as text."""

    view: list[str] = []
    cart: list[str] = []
    purchase: list[str] = []
