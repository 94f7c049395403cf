"""The stage of the fault scenarios, and the table of their results.

`--faults` selects scenarios: the short ones (the default), all, or the long one.
"""

import json
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from model.bundle import Bundle
from streams.demo.catalogue import CATALOGUE
from tests.faults.pictures import PictureServer
from tests.faults.stage import Stage, staged
from tests.faults.verdict import Row
from tests.kafka.distribution import KafkaUnavailable
from tests.oracle import Oracle

HERE = Path(__file__).parent
ROW = pytest.StashKey[Row]()
PROPERTY = "fault row"  # of a test report: with pytest-xdist, only reports reach the process that prints the table
COLUMNS = ("scenario", "seed", "events", "duplicates", "lost", "bags", "silent s", "crashes", "")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "short: a fault scenario that is part of the whole suite")
    config.addinivalue_line("markers", "long: a fault scenario that runs only on request")
    config.addinivalue_line("markers", "broken_by(point): the deliberate break that the fault scenario has to find")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    which = config.getoption("faults")

    def played(item: pytest.Item) -> bool:
        if HERE not in item.path.parents:
            return True
        long = item.get_closest_marker("long") is not None
        return (
            long if which == "long" else not long and (which == "all" or item.get_closest_marker("short") is not None)
        )

    for item in items:
        if HERE in item.path.parents and which != "short":  # a scenario takes as long as the machine needs
            item.add_marker(pytest.mark.timeout(0))
    left_out = [item for item in items if not played(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if played(item)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(1, int(metafunc.config.getoption("seeds") or 1) + 1))


@pytest.fixture(scope="session")
def every_picture() -> Iterator[PictureServer]:
    with PictureServer(CATALOGUE) as server:
        yield server


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    """One oracle for all scenarios, so that each photo is embedded once."""
    return Oracle(Bundle.load(), lambda url: (CATALOGUE / url.rsplit("/", 1)[1].partition("?")[0]).read_bytes())


@pytest.fixture
def pictures(every_picture: PictureServer) -> PictureServer:
    every_picture.forget()
    return every_picture


@pytest.fixture
def stage(
    request: pytest.FixtureRequest, tmp_path: Path, pictures: PictureServer, oracle: Oracle, seed: int
) -> Iterator[Stage]:
    row = Row(request.node.originalname.removeprefix("test_").replace("_", " "), seed)
    request.node.stash[ROW] = row
    breaks = tuple(request.config.getoption("break") or ())
    if request.config.getoption("broken"):
        row.broken_by = request.node.get_closest_marker("broken_by").args[0]
        breaks += (row.broken_by,)
    try:
        with staged(tmp_path, pictures, oracle, row, breaks) as made:
            yield made
    except KafkaUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Kafka for the test: {error}")
    finally:
        if path := request.config.getoption("rows"):
            with path.open("a") as file:
                file.write(row.line() + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call" and (row := item.stash.get(ROW, None)):
        row.passed = report.passed
        if report.failed:
            row.note = row.note or str(call.excinfo.value if call.excinfo else "").partition("\n")[0][:120]
        if report.failed and not row.events:  # it failed before its verdict
            stage: Stage = item.funcargs["stage"]  # pyright: ignore[reportAttributeAccessIssue]
            report.sections.append(("verdict after the failure", stage.account()))
        if row.broken_by:
            expect_failure(report, row)
        report.user_properties.append((PROPERTY, row.line()))
    return report


def expect_failure(report: pytest.TestReport, row: Row) -> None:
    """Invert the report of a scenario that ran with a deliberate break."""
    row.passed = report.failed
    row.note = f"{row.broken_by}: {row.note if report.failed else 'not found'}"
    if report.failed:
        report.outcome, report.longrepr, report.sections = "passed", None, []
    elif report.passed:
        report.outcome, report.longrepr = "failed", f"{row.scenario} did not find {row.broken_by}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [one for outcome in ("passed", "failed") for one in terminalreporter.getreports(outcome)]
    lines = [
        text
        for one in sorted(reports, key=lambda one: one.start)
        for name, text in one.user_properties
        if name == PROPERTY
    ]
    rows = [Row(**json.loads(str(line))) for line in lines]
    if not rows:
        return
    lines = [COLUMNS, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    terminalreporter.section("faults")
    for line in lines:
        text = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:-1], widths[1:-1], strict=True)),
        ]
        terminalreporter.write_line("  ".join([*text, line[-1]]).rstrip())


def cells(row: Row) -> tuple[str, ...]:
    numbers = (row.seed, row.events, row.duplicates, row.lost, row.differing_bags, row.silence, row.crashes)
    return (row.scenario, *map(str, numbers), row.note if row.passed else f"FAILED {row.note}")
