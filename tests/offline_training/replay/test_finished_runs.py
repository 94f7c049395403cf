"""A finished run is evaluated again: beside other bundles, on a page, and beside other runs. There is no broker."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
pytest.importorskip("matplotlib", reason="needs the extra `train`")
pytest.importorskip("jinja2", reason="needs the extra `train`")

from PIL import Image

from model.bundle import DEFAULT_BUNDLE, Bundle
from offline_training.replay.evaluation.results import read
from offline_training.replay.exceptions import ReplayError
from offline_training.replay.play.events import EventSelection, PreparedDataset
from offline_training.replay.report import written
from tests.bundles import write_trending
from tests.command import Command, Done
from tests.offline_training.replay.finished import EVERY, TOOK, finish, other_prior, variant
from tests.offline_training.replay.made import shop
from tests.pages import Page, markdown_tables, texts_of

USERS, EACH, DEAD = 12, 16, frozenset({3, 40})
METHODS = ["recommended", "popularity", "7-day trend", "28-day trend"]
NOBODY = "kafka://127.0.0.1:1"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, another bundle, and a run with each bundle."""
    folder = tmp_path_factory.mktemp("place")
    shop(folder / "shop", users=USERS, each=EACH)
    variant(folder / "reversed", other_prior, embedder=b"another")
    finish(folder / "shop", folder / "run", dead=DEAD)
    finish(folder / "shop", folder / "other", folder / "reversed")
    return folder


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: Path) -> Command:
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "200")
    command = Command(monkeypatch, capsys)

    def run(*arguments: str, **environment: str) -> Done:
        return command("replay", *arguments, **{"TASTESTREAM_BROKER": NOBODY, **environment})

    return run  # type: ignore[return-value]


@pytest.fixture
def pageless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no page of a run, for tests that do not look at one."""

    def without_jinja(name: str) -> object:
        return None if name == "jinja2" else object()

    monkeypatch.setattr(written, "find_spec", without_jinja)


@pytest.fixture
def measured(replay: Command) -> None:
    """Evaluate both runs. A test that changes one works on a copy."""
    if Path("other", "results.json").exists():
        return
    assert replay("shop", "--out", "run", "--check", "--beside", "reversed").code == 0
    assert replay("shop", "--out", "other", TASTESTREAM_BUNDLE="reversed").code == 0


def results(run: str) -> dict[str, Any]:
    return json.loads(Path(run, "results.json").read_text())


def copied(run: str, name: str) -> str:
    """Copy a run, to change the copy."""
    shutil.rmtree(name, ignore_errors=True)
    shutil.copytree(run, name)
    return name


def line(done: Done, code: int) -> str:
    assert done.code == code, done.err
    [line] = [one for one in done.err.splitlines() if one.startswith("error: ")]
    return line


def group(found: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    [one] = [one for one in found["groups"] if (one["kind"], one["name"]) == (kind, name)]
    return one


@pytest.mark.slow
def test_a_bundle_beside_is_measured_at_the_same_targets_without_playing(replay: Command) -> None:
    done = replay("shop", "--out", copied("run", "first"), "--check", "--beside", "reversed")
    assert done.code == 0, done.err
    assert "recommended less reversed" in done.out
    assert "online = offline:          identical" in done.out
    found = results("first")
    assert list(found["beside"]) == ["reversed"]
    warm, cold = group(found, "start", "warm"), group(found, "start", "cold")
    assert list(warm["figures"]) == [*METHODS, "reversed"]
    assert warm["figures"]["reversed"] == warm["figures"]["recommended"], "the same networks"
    assert cold["figures"]["reversed"]["MRR"] != cold["figures"]["recommended"]["MRR"], "another prior"
    *baselines, other = warm["differences"]
    assert [one["other"] for one in baselines] == ["28-day trend", "7-day trend", "popularity"]
    assert other["other"] == "reversed"
    assert other["intervals"]["MRR"] == [0, 0]

    served = results("first")["groups"]
    assert replay("shop", "--out", "first").code == 0
    alone = results("first")["groups"]
    assert [one["figures"]["recommended"] for one in alone] == [one["figures"]["recommended"] for one in served]
    assert list(alone[0]["figures"]) == METHODS


def test_a_bundle_with_other_categories_is_refused_first(replay: Command, place: Path) -> None:
    folder = place / "hats"
    if not folder.exists():
        variant(folder, lambda manifest: manifest["categories"].__setitem__(0, "hats"))
    assert "--beside hats: its categories differ from those of" in line(
        replay("shop", "--out", "new", "--beside", "hats"), 1
    )
    assert not Path("new").exists()


def test_the_targets_of_some_users_are_measured(
    replay: Command, measured: None, pageless: None, tmp_path: Path
) -> None:
    some = tmp_path / "some.txt"
    some.write_text("user-1\n\nuser-3\n")
    done = replay("shop", "--out", copied("run", "part"), "--measured-users", str(some))
    assert done.code == 0, done.err
    found = results("part")
    assert group(found, "all", "all")["users"] == 2
    assert "targets of the users in some.txt only" in done.out
    assert "not comparable: measured users '' and 'some.txt'" in line(replay("compare", "run", "part"), 2)
    for text, said in (("nobody\n", "1 of its 1 users are not played, such as 'nobody'"), ("", "it is empty")):
        some.write_text(text)
        refused = line(replay("shop", "--out", "part", "--measured-users", str(some)), 1)
        assert said in refused and refused.endswith("name users of the data set, one a line")


def test_results_are_read_back(measured: None) -> None:
    found = read(Path("run", "results.json"))
    told = results("run")
    assert [group.figures for group in found.groups] == [one["figures"] for one in told["groups"]]
    assert found.rules.targets == frozenset({"purchase"})
    assert found.samples and found.samples[0].moments[0].attention
    spans = found.latency_over_time
    events = PreparedDataset(Path("shop")).overview(EventSelection()).events
    assert sum(span.answers for span in spans) == events - len(DEAD)
    assert {span.p95 for span in spans} == {TOOK}
    assert spans[-1].end == pytest.approx((events - 1) * EVERY / 1000, abs=0.1)


def test_samples_show_the_recommendation_that_counted(measured: None) -> None:
    data = PreparedDataset(Path("shop"))
    events = list(data.events(EventSelection()))
    journal = {one[0]: one for one in map(json.loads, Path("run", "answers.jsonl").read_text().splitlines())}
    for one in read(Path("run", "results.json")).samples:
        for moment in one.moments:
            of = [event for event in events if event.user == one.user]
            before = [event for event in of if event.time < moment.time and event.place not in DEAD]
            _, bag_size, _, scores, *_ = journal[before[-1].place]
            assert moment.bag_size == bag_size
            assert [guess.score for guess in moment.guesses] == pytest.approx(
                [score for _, score in scores[:5]], abs=1e-5
            )
            assert sum(weight for _, weight in moment.attention) == pytest.approx(1, abs=1e-4)
            assert {item for item, _ in moment.attention} <= {event.item for event in before}
            assert moment.age == moment.time - before[-1].time
            assert moment.bought == list(
                dict.fromkeys(event.item for event in of if event.time == moment.time and event.type == "purchase")
            )


def test_the_page_has_all_figures_and_is_self_contained(measured: None) -> None:
    html = Path("run", "report.html").read_text(encoding="utf-8")
    page = Page(html)
    text = "\n".join(page.texts)
    for title in (
        "What was played",
        "All targets",
        "By bag size",
        "By events of the user",
        "By day",
        "Latency",
        "Sample users",
    ):
        assert title in text, title
    assert not page.all("script") + page.all("link")
    found = results("run")
    everything = group(found, "all", "all")
    [main] = [one for one in page.tables if one[0] == ["", *METHODS, "reversed", "ceiling"]][:1]
    rows = {row[0]: row for row in main}
    for name, value in everything["figures"]["reversed"].items():
        assert rows[name][5].startswith(f"{value:.3f}".lstrip("0")), name
    assert "2 of 192 events caused no recommendation (dead letter 2)" in text
    assert "reversed: computed from the events" in text
    shown = {item for one in found["samples"] for moment in one["moments"] for item, _ in moment["attention"]}
    pictures = page.all("img")
    assert shown <= {one["alt"] for one in pictures}
    for one in pictures:
        data = base64.b64decode(one["src"].removeprefix("data:image/jpeg;base64,"))
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.size == (96, 96)
    markdown = Path("run", "report.md").read_text()
    assert next(row for one in markdown_tables(markdown) for row in one if row[0] == "hit@5") == rows["hit@5"]
    assert "2 of 192 events caused no recommendation" in markdown


def test_each_table_and_chart_scrolls_in_a_box_of_its_own_which_a_keyboard_can_reach(measured: None) -> None:
    html = Path("run", "report.html").read_text(encoding="utf-8")
    boxes = re.findall(r'<div class="wide"([^>]*)>\s*(?:<div style="[^"]*">)?\s*<(\w+)([^>]*)', html)
    assert {name for _, name, _ in boxes} == {"table", "svg"}
    assert len(boxes) == html.count("<table") + html.count('<svg role="img"')
    assert all('tabindex="0"' in attributes for attributes, *_ in boxes)
    charts = html.count('<svg role="img"')
    wide_tables = sum(head.count("<th ") > 3 for head in re.findall("<thead>.*?</thead>", html))
    assert html.count("scroll sideways to see all") >= charts + wide_tables, "a phone says so"
    shown = html[html.index("<svg role") :]
    assert "fill: var(--ground)" not in shown, "a ground would hide the shade at the edge of the box"


def test_charts_are_valid_xml_and_name_each_method(measured: None) -> None:
    html = Path("run", "report.html").read_text(encoding="utf-8")
    charts = [part.partition("</svg>")[0] + "</svg>" for part in html.split("<svg ")[1:]]
    texts = [texts_of(f"<svg {chart}") for chart in charts]
    assert len(texts) == 4, "all users have the same number of events"
    assert all({"recommended", "popularity", "reversed"} <= found for found in texts[:-1])
    assert {"p50", "p95", "p99"} <= texts[-1]


def test_markup_in_names_is_escaped(replay: Command, place: Path) -> None:
    script = "<script>alert(1)</script> & $a_b$ | `c`"
    folder = variant(place / "markup", lambda manifest: manifest.__setitem__("name", script))
    assert replay("shop", "--out", copied("run", "marked"), "--beside", "markup").code == 0
    html = Path("marked", "report.html").read_text(encoding="utf-8")
    assert "<script" not in html
    assert Page(html).tables[0][0][5] == script
    assert len({len(row) for row in markdown_tables(Path("marked", "report.md").read_text())[1]}) == 1
    assert folder.is_dir()


def test_without_jinja_or_matplotlib_it_says_what_to_install(replay: Command, pageless: None) -> None:
    Path(copied("run", "plain"), "report.html").unlink(missing_ok=True)
    done = replay("shop", "--out", "plain")
    assert done.code == 0
    assert "it needs Jinja and Matplotlib: pip install 'tastestream[train]'" in done.out
    assert not Path("plain", "report.html").exists()


def test_workers_and_replays_import_neither_jinja_nor_matplotlib_nor_torch() -> None:
    code = (
        "import sys\nfor name in ('jinja2', 'matplotlib', 'torch'): sys.modules[name] = None\n"
        "import streams.cli, streams.runner, streams.runtime.supervisor, offline_training.replay.run, offline_training.replay.compare"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_rounded_precision_is_measured_for_the_paper_only(replay: Command, measured: None) -> None:
    files = ("results.json", "report.md", "report.html")
    for name in files:
        assert "ounded precision" not in Path("run", name).read_text(encoding="utf-8"), name
    done = replay("shop", "--out", copied("run", "papers"), "--paper")
    assert done.code == 0, done.err
    for name in files:
        assert "ounded precision" in Path("papers", name).read_text(encoding="utf-8"), name
    own, paper = (group(results(name), "all", "all")["figures"]["recommended"] for name in ("run", "papers"))
    assert {"rounded precision@1", "rounded precision@5", "rounded precision@10"} == paper.keys() - own.keys()
    assert own == {name: paper[name] for name in own}


# Comparing runs


def test_runs_are_compared_target_by_target(replay: Command, measured: None) -> None:
    done = replay("compare", "run", "other/results.json", "--out", "compared")
    assert done.code == 0, done.err
    assert "other less run" in done.out
    assert "other and run have different events without a recommendation" in done.out
    found = json.loads(Path("compared", "compare.json").read_text())
    assert found["paired"]
    everything = found["groups"][0]
    for name in ("run", "other"):
        assert everything["figures"][name] == group(results(name), "all", "all")["figures"]["recommended"]
        assert everything["intervals"][name] == group(results(name), "all", "all")["intervals"]["recommended"]
    [difference] = everything["differences"]
    low, high = difference["intervals"]["MRR"]
    assert low <= everything["figures"]["other"]["MRR"] - everything["figures"]["run"]["MRR"] <= high
    own = everything["intervals"]["run"]["MRR"]
    assert high - low < own[1] - own[0], "paired over the same users"
    page = Page(Path("compared", "compare.html").read_text(encoding="utf-8"))
    assert page.tables[0][0] == ["", "run", "other"]
    assert ["", "run", "other", "other less run", "ceiling"] in [one[0] for one in page.tables]
    markdown = Path("compared", "compare.md").read_text()
    assert [one[0] for one in markdown_tables(markdown)][:4] == [one[0] for one in page.tables][:4]
    fields = found["fields"][0]
    assert list(fields["leads"]) == ["run", "other"]
    for name in ("run", "other"):
        own = results(name)["fields"][0]
        assert fields["figures"][name] == own["figures"]["recommended"]
        lead = fields["leads"][name]["macro hit@3"]
        ahead = fields["figures"][name]["macro hit@3"] - fields["figures"]["28-day trend"]["macro hit@3"]
        assert lead["difference"] == pytest.approx(ahead), "all over the trend that is shown"
        [said] = [one for one in done.out.splitlines() if one.startswith(f"{name} is ahead of the 28-day trend by ")]
        assert said in markdown and said in "\n".join(page.texts)
        assert said.endswith("more than chance.")
        assert ("which is more" in said) == (lead["low"] > 0)


def test_the_verdict_and_the_figures_by_field_are_on_the_terminal_and_in_both_reports(
    measured: None, replay: Command
) -> None:
    done = replay("shop", "--out", copied("run", "again"))
    lead = results("again")["fields"][0]["leads"]["recommended"]["macro hit@3"]
    [said] = [one for one in done.out.splitlines() if "28-day trend by" in one]
    assert said.startswith(
        f"The recommendations are ahead of the 28-day trend by {lead['difference']:.3f}".replace("0.", ".", 1)
    )
    assert said in Path("again", "report.md").read_text()
    page = Page(Path("again", "report.html").read_text(encoding="utf-8"))
    assert said in page.texts
    [table] = [one for one in page.tables if one[0][-2:] == ["recommended less 28-day trend", "targets"]][:1]
    rows = {row[0]: row for row in table}
    assert f"{lead['difference']:+.3f}".replace("0.", ".", 1) in rows["macro hit@3"][5]
    assert "bits (fewer are better)" not in rows, "no message tells probabilities"
    text = "\n".join(page.texts)
    assert "recommended, popularity, 7-day trend, 28-day trend: figures by field are derived from the list" in text


def test_recommended_items_are_measured_if_asked_and_are_on_the_terminal_and_in_both_reports(
    measured: None, replay: Command
) -> None:
    done = replay("shop", "--out", copied("run", "items"), "--items")
    assert done.code == 0, done.err
    assert results("run")["items"] is None
    own = results("items")["items"]["figures"]["all, recommended"]
    [said] = [one for one in done.out.splitlines() if one.startswith("The item ranking is") and "hit@12" in one]
    assert f"{abs(own['hit@12 - popular in 28 days']):.3f}" in said
    assert said in Path("items", "report.md").read_text()
    page = Page(Path("items", "report.html").read_text(encoding="utf-8"))
    assert said in page.texts
    [table] = [one for one in page.tables if one[0] == ["", "hit@12", "MAP@12", "recall@100"]][:1]
    assert table[1][0] == "recommended"
    assert read(Path("items", "results.json")).items is not None


def test_without_the_targets_of_both_runs_there_are_no_paired_intervals(replay: Command, measured: None) -> None:
    Path(copied("other", "bare"), "targets.parquet").unlink()
    done = replay("compare", "run", "bare")
    assert done.code == 0, done.err
    [row] = [row for row in done.out.splitlines() if row.startswith("│ MRR")]
    cells = [cell.strip() for cell in row.split("│")[1:-1]]
    assert "[" in cells[2]
    assert cells[3][0] in "+-" and "[" not in cells[3]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--k", "3"), r"k \[1, 5, 10\] and \[3\]"),
        (("--targets", "view,purchase"), r"targets \['purchase'\] and \['purchase', 'view'\]"),
        (("--delay", "7d"), "delay 0 and 604800000"),
        (("--paper",), "paper False and True"),
    ],
)
def test_runs_of_other_rules_are_not_comparable(
    replay: Command, measured: None, pageless: None, options: tuple[str, ...], said: str
) -> None:
    changed = copied("other", "changed")
    assert replay("shop", "--out", changed, *options, TASTESTREAM_BUNDLE="reversed").code == 0
    done = replay("compare", "run", changed)
    found = line(done, 2)
    assert "run and changed are not comparable: " in found
    assert re.search(said, found), found


def test_runs_of_other_events_are_not_comparable(replay: Command, measured: None, pageless: None, place: Path) -> None:
    if not Path("smaller").exists():
        shop(place / "smaller", users=USERS, each=EACH - 1)
        finish(place / "smaller", place / "third")
    assert replay("smaller", "--out", "third").code == 0
    assert "run and third are not comparable: stream" in line(replay("compare", "run", "third"), 2)


def test_a_folder_that_is_no_run_is_refused(replay: Command, measured: None, place: Path) -> None:
    assert "nowhere/results.json: No such file or directory: give the --out" in line(
        replay("compare", "run", "nowhere"), 2
    )
    assert "expected two or more runs, found one" in line(replay("compare", "run"), 2)
    assert "run: the run is given twice" in line(replay("compare", "run", "./run"), 2)
    (place / "old").mkdir(exist_ok=True)
    for text, said in (
        ('{"rules": {}}', "of version 4, found none"),
        ('{"version": 4}', "expected what `tastestream replay` wrote"),
    ):
        (place / "old" / "results.json").write_text(text)
        assert said in line(replay("compare", "run", "old"), 2)
        with pytest.raises(ReplayError):
            read(place / "old" / "results.json")


def test_a_run_without_any_recommendation_ends_with_code_1_and_the_reasons(replay: Command, tmp_path: Path) -> None:
    events = PreparedDataset(Path("shop")).overview(EventSelection()).events
    finish(Path("shop"), tmp_path / "dead", dead=frozenset(range(events)))
    done = replay("shop", "--out", str(tmp_path / "dead"))
    assert done.code == 1
    [line] = [one for one in done.err.splitlines() if one.startswith("error: ")]
    assert re.fullmatch(
        rf"error: none of the {events} events has a recommendation: dead letter {events}: see `tastestream dlq list`",
        line,
    )


def test_reads_are_measured_for_a_bundle_that_uses_the_trend_only(
    replay: Command, place: Path, measured: None, pageless: None
) -> None:
    if not (place / "trending").exists():
        finish(place / "shop", place / "trended", write_trending(place / "trending"), dead=DEAD)
    done = replay("shop", "--out", "trended", "--beside", str(DEFAULT_BUNDLE), TASTESTREAM_BUNDLE="trending")
    assert done.code == 0, done.err
    figures = group(results("trended"), "start", "warm")["figures"]
    assert {"recommended", "read", f"default {Bundle.load().version}"} <= figures.keys()
    assert figures["read"] != figures["recommended"]
    assert "read" not in group(results("run"), "start", "warm")["figures"]
