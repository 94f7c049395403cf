"""Amazon's files of three generations are read, and bad records are left out with a reason."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from offline_training.datasets.formats.amazon import ALL_PURCHASES, Amazon, parse_rule, paths_of, picture_of
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.records import DatasetError, DatasetEvent, DatasetItem, Dropped
from tests.data import DATA, needs

REVIEW_2014 = {"reviewerID": "A1", "asin": "B000000001", "overall": 5.0, "unixReviewTime": 1393372800}
REVIEW_2023 = {"user_id": "AE2", "asin": "B01", "parent_asin": "B000000002", "rating": 2.0, "timestamp": 1588687728923}


def interactions(path: Path, text: str, **options: Any) -> tuple[list[DatasetEvent], Dropped]:
    path.write_text(text)
    dropped = Dropped()
    amazon = Amazon([path], [], options.pop("rule", ALL_PURCHASES), **options)
    return list(amazon.interactions(dropped)), dropped


def test_reviews_of_all_generations(tmp_path: Path) -> None:
    found, dropped = interactions(tmp_path / "r.json", "\n".join(map(json.dumps, [REVIEW_2014, REVIEW_2023])))
    assert found == [
        DatasetEvent("A1", "B000000001", "purchase", 1393372800000),
        DatasetEvent("AE2", "B000000002", "purchase", 1588687728923),
    ]
    assert not dropped.counts


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"reviewerID": ""}, "event_without_user_or_item"),
        ({"reviewerID": "nan"}, "event_without_user_or_item"),
        ({"asin": True}, "event_with_unreadable_id"),
        ({"asin": ["B1"]}, "event_with_unreadable_id"),
        ({"asin": 1e17}, "event_with_inexact_id"),
        ({"overall": "five"}, "review_without_rating"),
        ({"overall": 9}, "review_without_rating"),
        ({"overall": float("inf")}, "review_without_rating"),
        ({"unixReviewTime": None}, "event_without_time"),
        ({"unixReviewTime": -5}, "event_time_out_of_range"),
        ({"unixReviewTime": float("inf")}, "event_without_time"),
        ({"unixReviewTime": "--5"}, "event_without_time"),
        ({"unixReviewTime": "09/13/2012"}, "event_with_ambiguous_time"),
        ({"unixReviewTime": 4_102_444_800}, "event_time_out_of_range"),
    ],
)
def test_an_incomplete_review_is_left_out_with_its_reason(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    found, dropped = interactions(tmp_path / "r.json", json.dumps(REVIEW_2014 | change) + json.dumps(REVIEW_2023))
    assert [one.user for one in found] == ["AE2"]
    assert dropped.counts == {reason: 1}


REVIEWS_OF_STARS: dict[str, Callable[[float], str]] = {
    "reviews of 2014 and 2018": lambda stars: json.dumps(REVIEW_2014 | {"overall": stars}),
    "reviews of 2023": lambda stars: json.dumps(REVIEW_2023 | {"rating": stars}),
    "ratings of 2014": lambda stars: f"A1,B000000001,{stars},1393372800",
    "ratings of 2018": lambda stars: f"B000000001,A1,{stars},1393372800",
}


@pytest.mark.parametrize("form", REVIEWS_OF_STARS)
def test_ratings_become_types_by_a_rule(tmp_path: Path, form: str) -> None:
    lines = "\n".join(REVIEWS_OF_STARS[form](float(stars)) for stars in (1, 2, 3, 4, 5)) + "\n"
    path = tmp_path / ("r.csv" if "ratings" in form else "r.json")
    found, dropped = interactions(path, lines, rule=parse_rule("4-5=purchase, 1-2=return"))
    assert [one.type for one in found] == ["return", "return", "purchase", "purchase"]
    assert dropped.counts == {"rating_stands_for_nothing": 1}
    found, dropped = interactions(path, lines, rule=parse_rule("4-5=purchase"))
    assert [one.type for one in found] == ["purchase", "purchase"]
    assert dropped.counts == {"rating_stands_for_nothing": 3}


def test_ratings_of_2023_with_a_header_become_types_by_a_rule(tmp_path: Path) -> None:
    rows = "".join(f"A1,B000000001,{stars}.0,1393372800000\n" for stars in (1, 2, 3, 4, 5))
    text = "user_id,parent_asin,rating,timestamp\n" + rows
    found, _ = interactions(tmp_path / "r.csv", text, rule=parse_rule("4-5=purchase,1-2=return"))
    assert [one.type for one in found] == ["return", "return", "purchase", "purchase"]


def test_a_rule_that_contradicts_itself_or_goes_backwards_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"5 is both purchase and return; name it once"):
        parse_rule("4-5=purchase,5=return")
    with pytest.raises(DatasetError, match=r"'5-4=purchase': 5 is above 4: expected for example 4-5=purchase"):
        parse_rule("5-4=purchase")


@pytest.mark.parametrize("text", ["", "5", "6=purchase", "4-5=bought", "5=purchase;4=view"])
def test_an_invalid_rule_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(DatasetError, match="expected for example 4-5=purchase"):
        parse_rule(text)


USER_FIRST = "A5QQOOZJOVPSF,B00005N7P0,4.0,1393372800\nA1Z16630QMH8Q6,0737104473,5.0,1388880000\n"
ITEM_FIRST = "B00005N7P0,A5QQOOZJOVPSF,4.0,1393372800\n0737104473,A1Z16630QMH8Q6,5.0,1388880000\n"
HEADER = "user_id,parent_asin,rating,timestamp\nA5QQOOZJOVPSF,B00005N7P0,4.0,1393372800000\n"


@pytest.mark.parametrize("text", [USER_FIRST, ITEM_FIRST, HEADER], ids=["2014", "2018", "2023"])
def test_ratings_in_any_order_of_the_columns(tmp_path: Path, text: str) -> None:
    found, dropped = interactions(tmp_path / "ratings.csv", text + "broken,line\n")
    assert found[0] == DatasetEvent("A5QQOOZJOVPSF", "B00005N7P0", "purchase", 1393372800000)
    assert len(found) == text.count("B00005N7P0") + text.count("0737104473")
    assert dropped.counts == {"broken_line": 1}


def test_an_ambiguous_column_order_is_an_error_that_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot tell the item column .* --columns item,user"):
        interactions(tmp_path / "ratings.csv", "ann,shoe,5,1393372800\n")
    found, _ = interactions(tmp_path / "ratings.csv", "ann,shoe,5,1393372800\n", item_first=True)
    assert (found[0].user, found[0].item) == ("shoe", "ann")


@pytest.mark.parametrize(
    ("found", "picture"),
    [
        ({"imUrl": "http://a/1.jpg"}, "http://a/1.jpg"),
        ({"imUrl": " //a/1.jpg"}, "https://a/1.jpg"),
        ({"image": ["https://a/1.jpg", "https://a/2.jpg"]}, "https://a/1.jpg"),
        ({"imageURL": ["https://a/s.jpg"], "imageURLHighRes": ["https://a/l.jpg"]}, "https://a/l.jpg"),
        ({"images": [{"thumb": "https://a/t.jpg", "large": "https://a/l.jpg", "hi_res": None}]}, "https://a/l.jpg"),
        ({"images": {"hi_res": [None], "large": ["https://a/l.jpg"]}}, "https://a/l.jpg"),
        ({"images": []}, ""),
        ({"imageURL": [], "image": "none"}, ""),
        ({}, ""),
    ],
)
def test_the_largest_size_of_the_first_picture_is_taken(found: dict[str, Any], picture: str) -> None:
    assert picture_of(found) == PictureRef.parse(picture)


@pytest.mark.parametrize(
    ("found", "paths"),
    [
        ({"categories": [["Beauty", "Lips"], ["Gifts"]]}, (("Beauty", "Lips"), ("Gifts",))),
        ({"category": ["Clothing, Shoes &amp; Jewelry", "Women"]}, (("Clothing, Shoes & Jewelry", "Women"),)),
        ({"category": ["Women", "</span></span>", "<b>Tops</b>\n"]}, (("Women", "Tops"),)),
        ({"categories": ["Handmade Products", "Jewelry"]}, (("Handmade Products", "Jewelry"),)),
        ({"categories": [["Toys"], ["Toys"]]}, (("Toys",),)),
        ({"categories": "Toys"}, (("Toys",),)),
        ({"categories": []}, ()),
        ({}, ()),
    ],
)
def test_category_paths_have_no_markup(found: dict[str, Any], paths: tuple[tuple[str, ...], ...]) -> None:
    assert paths_of(found) == paths


@needs("amazon")
@pytest.mark.parametrize(
    ("name", "count", "pictures"),
    [("meta_2014_real.txt", 4, 4), ("meta_2023_real.jsonl", 1, 1), ("meta_Gift_Cards_sample.json", 10, 0)],
)
def test_real_metadata_of_each_generation(name: str, count: int, pictures: int) -> None:
    dropped = Dropped()
    found: list[DatasetItem] = list(Amazon([], [DATA / "amazon" / name], ALL_PURCHASES).items(dropped))
    assert len(found) >= count
    assert sum(bool(item.picture) for item in found) >= pictures
    assert all(item.paths for item in found[:1])
    assert not dropped.counts


@needs("amazon")
def test_real_reviews_and_ratings_agree() -> None:
    dropped = Dropped()
    folder = DATA / "amazon"
    reviews = list(Amazon([folder / "Magazine_Subscriptions_5.json.gz"], [], ALL_PURCHASES).interactions(dropped))
    ratings = list(Amazon([folder / "ratings_Magazine_Subscriptions.csv"], [], ALL_PURCHASES).interactions(dropped))
    assert not dropped.counts
    assert len(reviews) > 1000
    assert {"A5QQOOZJOVPSF", "B00005N7P0"} <= {name for one in ratings for name in one[:2]}
    assert set(ratings) & set(reviews)
