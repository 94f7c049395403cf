"""A small shop, and the commands that train a bundle for it."""

import random
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner, Result

from streams.cli import app

KINDS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (40, 60, 210)}
EACH, USERS = 12, 150


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, [str(one) for one in arguments])


def done(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def write_shop(folder: Path) -> None:
    """A prepared data set: pictures of three colours, and users who like one or two of them and take an item a day."""
    chance = random.Random(0)
    noise = np.random.default_rng(0)
    items = ["item,image,categories"]
    for kind, colour in KINDS.items():
        for number in range(EACH):
            pixels = np.clip(np.array(colour) + noise.normal(0, 25, (64, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{kind}{number}.jpg")
            items.append(f"{kind}{number},{kind}{number}.jpg,colour > {kind}")
    (folder / "broken.jpg").write_bytes(b"no picture")
    items += ["broken,broken.jpg,colour > red", "far,http://10.0.0.1/far.jpg,colour > red"]
    (folder / "items.csv").write_text("\n".join(items))
    events = ["user,item,time"]
    for user in range(USERS):
        liked = chance.sample(list(KINDS), chance.choice([1, 2]))
        taken = [f"{chance.choice(liked)}{chance.randrange(EACH)}" for _ in range(10)]
        events += [
            f"user-{user},{item},{1_600_000_000 + 86_400 * time}" for time, item in enumerate([*taken, "broken", "far"])
        ]
    (folder / "events.csv").write_text("\n".join(events))
    tables = ("--items", folder / "items.csv", "--events", folder / "events.csv")
    done("dataset", "tables", *tables, "--out", folder / "set", "--levels", 2, "--min-items", 1)
