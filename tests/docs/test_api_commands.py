"""The commands of the page on the HTTP API run as they are shown, against an API over parts in memory."""

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from model.bundle import Bundle
from streams.serve.api.problems import PROBLEMS
from tests.docs.test_claims import ROOT
from tests.streams.serve.api.conftest import Serve, Served, bundle, serve, serving

__all__ = ["bundle", "serve", "serving"]  # fixtures

PAGE = (ROOT / "docs" / "use" / "api.md").read_text()
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
SHOWN = "http://localhost:6068"


async def run(served: Served, folder: Path, command: str) -> str:
    """Run a command in a shell, against the API that runs. curl prints the status at the end."""
    there = command.replace(SHOWN, served.url(""))
    script = f'curl() {{ command curl -sS -w "\\n%{{http_code}}" "$@"; }}\n{there}'
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    return out.decode()


def test_the_page_has_a_command_for_each_part() -> None:
    assert len(COMMANDS) >= 16
    assert all(SHOWN in command for command in COMMANDS)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_of_the_page_is_answered(serve: Serve, tmp_path: Path, command: str) -> None:
    for name in ("camera", "sofa"):
        (tmp_path / f"{name}.jpg").write_bytes(b"picture of a " + name.encode())
    async with serve() as served:
        status = (await run(served, tmp_path, command)).splitlines()[-1]
        expected = "202" if "DELETE" in command or "interactions" in command else "200"
        assert status == expected


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_the_problem_of_the_page_is_the_one_that_is_sent(serve: Serve, tmp_path: Path) -> None:
    [shown] = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    async with serve() as served:
        found = await run(served, tmp_path, f"curl '{SHOWN}/v1/users/ada/recommendations?k=101'")
    assert "".join(shown.split()) == "".join(found.removesuffix("400").split())


def test_each_problem_has_a_row_in_the_reference(bundle: Bundle) -> None:
    reference = (ROOT / "docs" / "reference" / "api.md").read_text().partition("## Problems")[2]
    assert re.findall(r"^\| `(\w+)` \|", reference, re.MULTILINE) == list(PROBLEMS)
