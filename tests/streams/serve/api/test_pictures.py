"""What pictures say: a taste, and items that look like one. Nothing is stored, and no upload takes more memory than its limit."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from aiohttp import FormData, MultipartWriter

from model.bundle import Bundle
from streams.profile.scoring import Recommender
from streams.serve.api.context import Limits
from streams.serve.interface import Scorer, Tasted, Uploaded
from streams.trend.trend import Trend
from tests.bundles import write_sibling
from tests.streams.serve.api.conftest import Serve, Served, problem_of
from tests.streams.serve.made import OPTIONS, MadeServing, MadeTaster

GOOD = b"picture of a camera"


def form(*parts: tuple[str, bytes | str, str | None]) -> FormData:
    made = FormData(default_to_multipart=True)
    for name, content, filename in parts:
        made.add_field(name, content, filename=filename)
    return made


async def test_pictures_of_a_form_are_a_taste_and_each_fate_is_said(served: Served) -> None:
    data = form(
        ("purchase", GOOD, "camera.jpg"),
        ("view", b"no picture", "notes.txt"),
        ("cart", "https://shop.example/a.jpg", None),
        ("view", "http://10.0.0.1/a.jpg", None),
    )
    response = await served.post("/v1/taste?items=3&k=4", data=data)
    found = await response.json()
    assert response.status == 200, found
    fates = [(one["item_id"], one["name"], one["type"], one["reason"]) for one in found["pictures"]]
    assert fates == [
        ("1", "camera.jpg", "purchase", ""),
        ("2", "notes.txt", "view", "unreadable_picture"),
        ("3", "https://shop.example/a.jpg", "cart", ""),
        ("4", "http://10.0.0.1/a.jpg", "view", "address_not_allowed"),
    ]
    assert (found["bag_size"], len(found["categories"]), len(found["items"])) == (2, 4, 3)
    assert {one["item_id"] for one in found["attention"]} == {"1", "3"}
    assert sum(one["weight"] or 0 for one in found["pictures"]) == pytest.approx(1, abs=1e-5)
    assert {item["because"] for item in found["items"]} <= {"1", "3"}
    assert not served.serving.sender.sent and "-" not in served.serving.bags.bags


async def test_a_taste_of_urls_is_that_of_a_bag_with_the_same_events(served: Served) -> None:
    asked = {"pictures": [{"url": "https://shop.example/b.jpg", "type": "purchase"}]}
    found = await (await served.post("/v1/taste", asked)).json()
    by_form = await (await served.post("/v1/taste", data=form(("purchase", "https://shop.example/b.jpg", None)))).json()
    assert found == by_form
    weaker = {"pictures": [{"url": "https://shop.example/b.jpg"}]}
    assert (await (await served.post("/v1/taste", weaker)).json())["pictures"][0]["type"] == "view"


async def test_a_taste_without_a_usable_picture_is_a_cold_start(served: Served) -> None:
    found = await (await served.post("/v1/taste", data=form(("view", b"text", "a.txt")))).json()
    assert (found["cold_start"], found["attention"]) == (True, [])
    assert found["categories"] == (await (await served.get("/v1/users/nobody/recommendations")).json())["categories"]


async def test_64_pictures_are_taken_and_65_are_not(served: Served) -> None:
    urls = [{"url": f"https://shop.example/{number}.jpg"} for number in range(65)]
    assert (await served.post("/v1/taste", {"pictures": urls[:64]})).status == 200
    response = await served.post("/v1/taste", {"pictures": urls})
    assert (response.status, (await problem_of(response))["field"]) == (400, "pictures")
    parts = [("view", GOOD, f"{number}.jpg") for number in range(65)]
    assert (await served.post("/v1/taste", data=form(*parts[:64]))).status == 200
    response = await served.post("/v1/taste", data=form(*parts))
    assert (response.status, (await problem_of(response))["reason"]) == (413, "too_many_pictures")


@pytest.mark.parametrize(
    ("parts", "status", "reason"),
    [
        ([], 400, "missing_field"),
        ([("love", GOOD, "a.jpg")], 400, "invalid_field"),
        ([("return", GOOD, "a.jpg")], 400, "invalid_field"),
        ([("view", "", None)], 400, "invalid_field"),
        ([("view", "https://shop.example/" + "x" * 2100, None)], 400, "invalid_field"),
        ([("view", "https://shop.example/a\nb.jpg", None)], 400, "invalid_field"),
        ([("view", "x" * 9000, None)], 413, "body_too_large"),
    ],
)
async def test_a_form_that_is_none_is_refused(
    served: Served, parts: list[tuple[str, bytes | str, str | None]], status: int, reason: str
) -> None:
    response = await served.post("/v1/taste", data=form(*parts))
    assert (response.status, (await problem_of(response))["reason"]) == (status, reason)
    assert not served.serving.taster.asked


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x",
        b"--x\r\n",
        b"--x\r\n\r\n",
        b"--x\r\nContent-Disposition: form-data; name=view; filename=a\r\n\r\npicture",
        b"--x\r\nContent-Disposition: form-data; name=view\r\n\r\n\xff\xfe\r\n--x--\r\n",
        b"--x\r\n" + b"A: b\r\n" * 5000 + b"\r\n--x--",
        b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\na\r\n--y--\r\n--x--\r\n",
        b"--x\r\nContent-Disposition: form-data; name=view; filename=a\r\nContent-Transfer-Encoding: base64\r\n\r\naaaa\r\n--x--\r\n",
        b"\xff" * 100,
    ],
)
async def test_a_broken_form_is_one_problem(served: Served, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = await served.ask("POST", "/v1/taste", data=body, headers=headers)
    assert response.status == 400
    await problem_of(response)


async def test_a_form_without_a_boundary_is_one_problem(served: Served) -> None:
    response = await served.ask("POST", "/v1/taste", data=b"x", headers={"Content-Type": "multipart/form-data"})
    assert (response.status, (await problem_of(response))["reason"]) == (400, "invalid_form")


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "image/jpeg"])
async def test_another_media_type_is_refused(served: Served, media: str) -> None:
    response = await served.ask("POST", "/v1/taste", data=b"x", headers={"Content-Type": media})
    assert (response.status, (await problem_of(response))["reason"]) == (415, "unsupported_media_type")


class Endless:
    """A body without an end. `sent` says how much of it was taken."""

    def __init__(self) -> None:
        self.sent = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"--x\r\nContent-Disposition: form-data; name=view; filename=a\r\n\r\npicture"
        while self.sent < 2 * 1024**3:
            self.sent += 64 * 1024
            yield b"\0" * 64 * 1024


async def test_an_upload_of_two_gigabytes_is_stopped_at_the_limit(serve: Serve) -> None:
    async with serve(limits=Limits(upload_bytes=1024**2, picture_bytes=2 * 1024**3)) as served:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        response = await served.ask(
            "POST", "/v1/taste", data=b"x", headers=headers | {"Content-Length": str(2 * 1024**3)}
        )
        assert (response.status, (await problem_of(response))["reason"]) == (413, "body_too_large")
        body = Endless()
        try:
            response = await served.ask("POST", "/v1/taste", data=body.__aiter__(), headers=headers)
            assert (response.status, (await problem_of(response))["reason"]) == (413, "body_too_large")
        except OSError:  # the connection is closed while the client still sends
            pass
        assert body.sent < 64 * 1024**2
        assert served.api._room == served.api.limits.bodies_bytes


async def test_a_picture_and_all_pictures_have_a_limit_each(serve: Serve) -> None:
    async with serve(limits=Limits(upload_bytes=100_000, picture_bytes=40_000)) as served:
        for sizes, status in (([40_000], 200), ([40_001], 413), ([39_000] * 2, 200), ([39_000] * 3, 413)):
            parts = [("view", b"picture".ljust(size, b"x"), "a.jpg") for size in sizes]
            assert (await served.post("/v1/taste", data=form(*parts))).status == status


async def test_a_compressed_body_is_not_inflated(served: Served) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    for path in ("/v1/taste", "/v1/users:batch"):
        response = await served.ask("POST", path, data=b"x", headers=headers)
        assert (response.status, (await problem_of(response))["reason"]) == (415, "unsupported_media_type")


async def test_uploads_that_others_have_no_room_for_wait(serve: Serve) -> None:
    async with serve(limits=Limits(upload_bytes=1000, bodies_bytes=1500)) as served:
        with served.api.room(1000):
            response = await served.post("/v1/taste", data=form(("view", GOOD + b"x" * 700, "a.jpg")))
            assert (response.status, (await problem_of(response))["reason"]) == (503, "busy")
        assert (await served.post("/v1/taste", data=form(("view", GOOD, "a.jpg")))).status == 200


async def test_a_multipart_writer_of_a_client_is_understood(served: Served) -> None:
    with MultipartWriter("form-data") as writer:
        part = writer.append(GOOD, {"Content-Type": "image/jpeg"})
        part.set_content_disposition("form-data", name="purchase", filename='ü".jpg')
    response = await served.post("/v1/taste", data=writer)
    assert (await response.json())["pictures"][0]["reason"] == ""


async def test_a_taste_during_which_another_embedder_is_loaded_is_asked_for_again(
    serve: Serve, serving: MadeServing, tmp_path: Path
) -> None:
    sibling = Bundle.load(write_sibling(tmp_path / "sibling"))
    assert sibling.embedder_version != serving.bags.bundle.embedder_version

    class Loading(MadeTaster):
        async def taste(self, pictures: Sequence[str | Uploaded]) -> list[Tasted]:
            serving.scored_by = Scorer(
                Recommender(sibling, sibling.aggregator(), OPTIONS), Trend(None, {}, len(sibling.categories))
            )
            return await super().taste(pictures)

    serving.taster = Loading(serving.bags.bundle)
    async with serve() as served:
        response = await served.post("/v1/taste", data=form(("view", GOOD, "a.jpg")))
        assert (response.status, (await problem_of(response))["reason"]) == (503, "not_ready")


# Similar items


async def test_items_like_an_item_leave_it_out_and_are_filtered(served: Served) -> None:
    found = await (await served.get("/v1/items/item-4/similar?n=20")).json()
    scores = [item["score"] for item in found["items"]]
    assert {item["item_id"] for item in found["items"]} == {f"item-{number}" for number in range(10)} - {"item-4"}
    assert scores == sorted(scores, reverse=True)
    some = await (await served.get("/v1/items/item-4/similar?n=2&category=camera&in_stock=true")).json()
    assert [item["item_id"] for item in some["items"]] == [
        item["item_id"] for item in found["items"] if item["categories"] == ["camera"] and item["in_stock"]
    ][:2]


async def test_similar_items_that_are_known_are_not_sent_again(served: Served) -> None:
    etag = (await served.get("/v1/items/item-4/similar")).headers["ETag"]
    assert (await served.get("/v1/items/item-4/similar", headers={"If-None-Match": etag})).status == 304
    assert (await served.get("/v1/items/item-5/similar", headers={"If-None-Match": etag})).status == 200


async def test_an_unknown_item_is_not_found(served: Served) -> None:
    for path in ("/v1/items/gone/similar", "/v1/items/item-4%2F/similar"):
        response = await served.get(path)
        assert (response.status, (await problem_of(response))["reason"]) == (404, "unknown_item")


async def test_items_like_a_picture(served: Served) -> None:
    by_file = await served.post("/v1/items/similar?n=2", data=form(("view", GOOD, "a.jpg")))
    assert len((await by_file.json())["items"]) == 2
    by_url = await served.post("/v1/items/similar", {"picture": {"url": "https://shop.example/a.jpg"}})
    assert by_url.status == 200
    for bad in (form(("view", b"text", "a.jpg")), form(("view", "http://10.0.0.1/", None))):
        response = await served.post("/v1/items/similar", data=bad)
        assert (response.status, (await problem_of(response))["reason"]) == (422, "unusable_picture")
    two = form(("view", GOOD, "a.jpg"), ("view", GOOD, "b.jpg"))
    response = await served.post("/v1/items/similar", data=two)
    assert (response.status, (await problem_of(response))["reason"]) == (413, "too_many_pictures")
