"""The producers and consumers in the README work as pasted."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.demo.catalogue import CATALOGUE
from tests.kafka.system import COMMAND_TIMEOUT, System, next_line, picture_server

README = (Path(__file__).parents[2] / "README.md").read_text()
PICTURES = "http://127.0.0.1:8000"  # the folder of photos that the README serves on this machine


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def shop(system: System) -> Iterator[str]:
    """Running workers, and the address of a server with the same photos, on a free port."""
    with picture_server(CATALOGUE) as pictures, system.worker("all") as process:
        system.wait_ready("serve", process)
        yield pictures


def here(snippet: str, system: System, pictures: str) -> str:
    """The snippet with the addresses of the test's broker and picture server."""
    assert "localhost:9092" in snippet
    return snippet.replace("localhost:9092", system.broker.bootstrap).replace(PICTURES, pictures)


def test_the_photo_of_the_snippets_is_in_the_folder_that_the_readme_serves() -> None:
    [folder] = re.findall(r"http.server 8000 .*--directory (\S+)", README)
    photos = re.findall(rf"{PICTURES}/([\w.-]+)", README)
    assert len(photos) == 2, "one in Python, one for the console tools"
    assert all((Path(__file__).parents[2] / folder / photo).is_file() for photo in photos)


async def test_the_python_producer_and_consumer_work(system: System, shop: str) -> None:
    produce, consume = [here(snippet, system, shop) for snippet in snippets("python")]
    assert max(len(snippet.strip().splitlines()) for snippet in (produce, consume)) <= 12, "ten lines, and blank ones"

    subprocess.run([sys.executable, "-c", produce], check=True, timeout=COMMAND_TIMEOUT)
    await system.settled()

    with subprocess.Popen([sys.executable, "-u", "-c", consume], stdout=subprocess.PIPE, text=True) as consumer:
        assert consumer.stdout is not None
        try:
            line = next_line(consumer.stdout)
        finally:
            consumer.terminate()
    assert line.startswith("ada ")
    assert "'score'" in line


async def test_the_console_tools_work(system: System, shop: str) -> None:
    commands, _ = snippets("sh")
    event = re.search(r"printf '(.*?)\\n'", here(commands, system, shop))
    assert event is not None
    lines = commands.splitlines()
    producing = next(line for line in lines if "console-producer" in line).split("9092", 1)[1].split()
    consuming = next(line for line in lines if "console-consumer" in line).split("9092", 1)[1].split()

    system.broker.console("producer", *producing, stdin=event[1].replace("\\t", "\t") + "\n")
    await system.settled()

    recommended = len(await system.recommendations())
    shown = system.broker.console("consumer", *consuming, "--max-messages", str(recommended))
    assert [json.loads(line)["user_id"] for line in shown.splitlines()] == ["ada", "ada"]


async def test_the_question_gets_an_answer(system: System, shop: str) -> None:
    del shop
    _, question = snippets("sh")
    command = question.strip().replace("127.0.0.1:6068", f"127.0.0.1:{system.ports['serve']}")
    asked = subprocess.run(
        ["bash", "-c", f"{command} --silent"], capture_output=True, text=True, check=True, timeout=COMMAND_TIMEOUT
    )
    assert json.loads(asked.stdout)["user_id"] == "ada"
