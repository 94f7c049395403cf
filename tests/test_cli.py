"""The command line: every command has help with an example, and a wrong argument or setting gets one clear line."""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.bundle import DEFAULT_BUNDLE, Bundle
from model.bundle.manifest import content_checksum
from streams import cli
from streams.settings import Settings
from streams.text import UNSAFE, visible
from tests.command import Command, Done
from tests.model.bundle.adapted import OLD, put_adapter
from tests.model.bundle.early import write_early

COMMANDS = {
    "demo",
    "topics",
    "worker",
    "warm",
    "dlq",
    "schema",
    "settings",
    "bundle",
    "train",
    "replay",
}  # train is listed even without its extra


def help_of(*command: str) -> str:
    result = CliRunner().invoke(cli.app, [*command, "--help"], env={"COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def tastestream(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)  # a folder without .env
    return Command(monkeypatch, capsys)


def the_one_line(done: Done, code: int) -> str:
    """The only line that a command printed which failed with `code`."""
    assert done.code == code, done.err
    assert done.out == ""
    [line] = done.err.splitlines()
    assert line.startswith("error: ")
    return line


def listed(printed: str) -> list[str]:
    """The commands in a help text."""
    _, _, commands = printed.partition("Commands")
    return re.findall(r"^│ ([\w-]+)  ", commands, re.MULTILINE)


# Help


def test_the_help_lists_every_command() -> None:
    assert set(listed(help_of())) >= COMMANDS


def test_each_listed_command_and_each_under_it_has_help_with_an_example_of_itself() -> None:
    for command in listed(help_of()):
        for path in [[command, under] for under in listed(help_of(command))] or [[command]]:
            match = re.search(r"Example: (.+)", help_of(*path))
            assert match, f"no example in the help of {' '.join(path)}"
            assert f"tastestream {' '.join(path)}" in match[1]


def test_the_help_of_replay_names_compare_which_has_its_own() -> None:
    assert "tastestream replay compare RUN RUN ..." in help_of("replay")
    assert "Example: tastestream replay compare" in help_of("replay", "compare")


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "streams", "--help"], capture_output=True, text=True, check=True)
    assert set(listed(done.stdout)) == set(listed(help_of()))


def test_without_a_command_the_help_is_printed(tastestream: Command) -> None:
    done = tastestream()
    assert done.code == 2
    assert set(listed(done.out)) == set(listed(help_of()))


def test_no_command_offers_to_install_a_completion() -> None:
    assert not any("--install-completion" in help_of(*command) for command in ([], ["dlq"], ["bundle"], ["topics"]))


def test_the_version_is_the_one_of_the_installed_package(tastestream: Command) -> None:
    assert tastestream("--version") == (0, f"tastestream {version('tastestream')}\n", "")


def imports(code: str, *arguments: str) -> set[str]:
    """The packages that a process has imported after running `code` with these arguments."""
    show = "import sys; print('imported', *{name.partition('.')[0] for name in sys.modules})"
    script = f"import atexit; atexit.register(lambda: exec({show!r})); {code}"
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    _, _, names = done.stdout.rpartition("imported ")
    assert names, done.stderr
    return set(names.split())


HEAVY = {"onnxruntime", "numpy", "PIL", "torch", "faust", "aiokafka"}


def test_the_help_imports_nothing_heavy() -> None:
    main = "from streams.cli import main; main()"
    assert imports(main, "--help") & (HEAVY | {"pydantic", "msgspec", "prometheus_client"}) == set()


def test_the_supervisor_imports_nothing_that_only_its_workers_need() -> None:
    assert imports("import streams.commands, streams.runtime.supervisor") & HEAVY == set()


# Wrong arguments


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["worker", "bogus"], "'bogus' is not one of 'embed', 'profile', 'serve', 'all'"),
        (
            ["worker"],
            "Missing argument 'which'. Choose from: embed, profile, serve, all. See: tastestream worker --help",
        ),
        (["nonsense"], "No such command 'nonsense'"),
        (["wroker", "all"], "No such command 'wroker'. Did you mean 'worker'? See: tastestream --help"),
        (["dlq", "lst"], "No such command 'lst'. Did you mean 'list'? See: tastestream dlq --help"),
        (["topics", "--fast"], "No such option: --fast"),
        (["demo", "--pace", "slow"], "Invalid value for '--pace'"),
        (["schema", "xml"], "'xml' is not one of"),
        (["bundle", "check"], "Missing argument 'path'"),
        (["dlq", "list", "--reason", "htpp_status"], "--reason 'htpp_status' is no reason; did you mean http_status?"),
        (["dlq", "redrive"], "dlq redrive needs a filter, such as --reason or --since, or --all"),
        (["dlq", "redrive", "--dry-run", "--rate", "5"], "dlq redrive needs a filter"),
        (["dlq", "redrive", "--all", "--reason", "timeout"], "--all means all dead letters"),
        (["dlq", "redrive", "--all", "--rate", "0"], "Invalid value for '--rate'"),
        (["dlq", "replay"], "dlq redrive needs a filter"),  # its former name
        (["dlq", "list", "--since", "2 weeks"], "--since '2 weeks' is neither RFC 3339"),
        (["dlq", "list", "--since", "1h", "--until", "2h"], "--since 1h is not before --until 2h"),
        (["dlq", "list", "--limit", "0"], "Invalid value for '--limit'"),
        (["warm"], "Missing argument 'URLS'"),
        (["warm", "urls.txt", "--rate", "0"], "Invalid value for '--rate'"),
        (["warm", "urls.txt", "--format", "xml"], "'xml' is not one of 'csv', 'parquet', 'jsonl', 'txt'"),
        (["warm", "/nowhere.txt"], "/nowhere.txt cannot be read: No such file or directory"),
        (["warm", "/"], "/ is a folder; give a file that lists URLs"),
        (["replay"], "Missing argument 'dataset'"),
        (["replay", "shop"], "Missing option '--out'"),
        (["replay", "compare"], "Missing argument 'RUN'"),
        (["replay", "compare", "one"], "expected two or more runs, found one"),
        (["replay", "compare", "one", "two", "--lead", "5"], "No such option: --lead"),
        (["replay", "shop", "--out", "run", "--lead", "0"], "Invalid value for '--lead'"),
        (["replay", "shop", "--out", "run", "--users", "0"], "--users 0 selects nobody"),
        (["replay", "shop", "--out", "run", "--users", "1.5"], "Invalid value for '--users'"),
        (
            ["replay", "shop", "--out", "run", "--speed", "fast"],
            "--speed 'fast': invalid speed; expected a factor such as 3600x",
        ),
        (
            ["replay", "shop", "--out", "run", "--rate", "5/week"],
            "--rate '5/week': invalid rate; expected events per second such as 500/s",
        ),
        (["replay", "shop", "--out", "run", "--serve-on", "8080"], "--serve-on '8080': expected HOST:PORT"),
        (["replay", "shop", "--out", "run", "--serve-on", "0.0.0.0:80"], "at which the workers reach this machine"),
        (
            ["replay", "shop", "--out", "run", "--targets", "purchase,erase"],
            "--targets 'purchase,erase': expected event types of view, cart",
        ),
        (
            ["replay", "shop", "--out", "run", "--delay", "a week"],
            "--delay 'a week': expected a number with ms, s, m, h or d",
        ),
        (["replay", "shop", "--out", "run", "--k", "0"], "'--k': Input should be greater than or equal to 1"),
        (["replay", "shop", "--out", "run", "--from", "May"], "--from 'May': expected a time such as 2026-11-01"),
        (
            ["replay", "shop", "--out", "run", "--from", "2020-09-02", "--until", "2020-09-01"],
            "--from 2020-09-02 is not before --until 2020-09-01",
        ),
    ],
)
def test_a_wrong_argument_ends_with_code_2_and_one_line_that_names_it(
    tastestream: Command, arguments: list[str], named: str
) -> None:
    line = the_one_line(tastestream(*arguments), 2)
    assert named in line
    assert "Value error" not in line


@pytest.mark.parametrize(
    "command",
    [
        ["settings"],
        ["topics"],
        ["worker", "embed"],
        ["worker", "all"],
        ["schema"],
        ["warm", "urls.txt"],
        ["dlq", "list"],
        ["dlq", "redrive", "--all"],
    ],
)
def test_a_wrong_setting_ends_with_code_78_and_one_line_that_names_it(tastestream: Command, command: list[str]) -> None:
    assert "setting TASTESTREAM_TOP_K is 'many': " in the_one_line(tastestream(*command, TASTESTREAM_TOP_K="many"), 78)
    assert "did you mean TASTESTREAM_BROKER?" in the_one_line(tastestream(*command, TASTESTREAM_BROKRE="h:1"), 78)


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("/nowhere.toml", "--config /nowhere.toml: there is no such file"),
        ("/[/b][x].toml", "--config /[/b][x].toml: there is no such file"),
        ("/", "--config /: cannot be read: Is a directory"),
        (__file__, "not a TOML file"),
    ],
)
def test_a_wrong_settings_file_ends_with_code_78_and_one_line_that_names_it(
    tastestream: Command, file: str, named: str
) -> None:
    for command in (["settings"], ["worker", "all"]):
        assert named in the_one_line(tastestream("--config", file, *command), 78)


@pytest.mark.parametrize("option", [["--config", "some.toml"], ["--config=some.toml"]])
def test_config_is_accepted_anywhere_on_the_line(tastestream: Command, tmp_path: Path, option: list[str]) -> None:
    (tmp_path / "some.toml").write_text("top_k = 7")
    for line in ([*option, "settings"], ["settings", *option]):
        assert "\nTASTESTREAM_TOP_K=7\n" in tastestream(*line).out


def test_what_follows_two_hyphens_is_no_option() -> None:
    assert cli.with_config_first(["dlq", "list", "--config", "a"]) == ["--config", "a", "dlq", "list"]
    assert cli.with_config_first(["bundle", "show", "--", "--config"]) == ["bundle", "show", "--", "--config"]


def test_a_config_without_a_file_is_a_wrong_argument(tastestream: Command) -> None:
    assert "--config" in the_one_line(tastestream("settings", "--config"), 2)


# Completion


def completions(words: str, **environment: str) -> list[str]:
    """What bash completes the last word of a line to, by the script that `completion bash` prints."""
    place = words.count(" ")
    script = f"""
        tastestream() {{ {sys.executable} -m streams "$@"; }}; export -f tastestream
        source <({sys.executable} -m streams completion bash | sed 's/ env COMP_WORDS/ COMP_WORDS/')
        COMP_WORDS=({words}{' ""' if words.endswith(" ") else ""}); COMP_CWORD={place}
        _tastestream_completion tastestream; printf '%s\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_options_and_values() -> None:
    assert completions("tastestream dl") == ["dlq"]
    assert completions("tastestream dlq re") == ["redrive"]
    assert completions("tastestream dlq list --reas") == ["--reason"]
    assert completions("tastestream dlq list --reason http") == ["http_status"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(tastestream: Command, shell: str) -> None:
    done = tastestream("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert f"_TASTESTREAM_COMPLETE=complete_{shell}" in done.out


def test_the_help_names_the_demo_only_if_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "tastestream demo" in cli._first_step()
    monkeypatch.setattr(cli, "is_installed", set[object]().__contains__)  # nothing is
    assert "tastestream doctor" in cli._first_step()


# Settings


def test_all_settings_are_listed_with_complete_names_and_without_the_password(tastestream: Command) -> None:
    done = tastestream("settings", TASTESTREAM_TOP_K="7", TASTESTREAM_SASL_PASSWORD="hush")  # noqa: S106
    assert done.code == 0
    names = set(re.findall(r"TASTESTREAM_\w+", done.out))
    assert names == {f"TASTESTREAM_{name.upper()}" for name in Settings.model_fields}
    assert re.search(r"^TASTESTREAM_TOP_K=7$", done.out, re.MULTILINE)
    assert "hush" not in done.out


def test_the_list_of_settings_fits_80_columns(tastestream: Command) -> None:
    lines = tastestream("settings", COLUMNS="80").out.splitlines()
    assert all(len(line) <= 80 for line in lines if line.startswith("#"))


def test_a_changed_setting_is_listed_with_its_default(tastestream: Command) -> None:
    printed = tastestream("settings", TASTESTREAM_TOP_K="7").out
    assert re.search(r"Default:\s(# )?10\.\nTASTESTREAM_TOP_K=7\n", printed)


def test_the_defaults_as_a_file_leave_the_topics_to_the_namespace(
    tastestream: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listed = tastestream("settings", "--defaults").out
    (tmp_path / ".env").write_text(listed.replace("TASTESTREAM_NAMESPACE=", "TASTESTREAM_NAMESPACE=shop"))
    again = tastestream("settings").out
    assert "\n# TASTESTREAM_INTERACTIONS_TOPIC=shop-user-interactions\n" in again


def test_a_topic_that_is_named_by_hand_is_listed_as_a_setting(tastestream: Command) -> None:
    printed = tastestream("settings", TASTESTREAM_NAMESPACE="shop", TASTESTREAM_DLQ_TOPIC="letters").out
    assert "\nTASTESTREAM_DLQ_TOPIC=letters\n" in printed


def test_the_defaults_are_listed_even_if_a_setting_is_wrong(tastestream: Command) -> None:
    done = tastestream("settings", "--defaults", TASTESTREAM_TOP_K="many")
    assert (done.code, done.err) == (0, "")
    assert "\nTASTESTREAM_TOP_K=10\n" in done.out


def test_the_list_of_settings_is_a_file_that_gives_the_same_settings(tastestream: Command, tmp_path: Path) -> None:
    environment = {
        "TASTESTREAM_FETCH_PORTS": "[443, 8443]",
        "TASTESTREAM_FETCH_USER_AGENT": 'a # b "c" (d)',
        "TASTESTREAM_HALF_LIFE": "1234567.125",
        "TASTESTREAM_TYPE_WEIGHTS": "purchase=1,cart=.123456789,view=0",
        "TASTESTREAM_DATA_DIR": "/a folder",
        "TASTESTREAM_IDEMPOTENCE": "no",
    }
    listed = tastestream("settings", **environment).out
    (tmp_path / ".env").write_text(listed)
    assert tastestream("settings").out == listed


# Bundles


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the shipped bundle."""
    shutil.copytree(DEFAULT_BUNDLE, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_an_intact_bundle_is_called_intact_on_one_line(tastestream: Command, copy: Path) -> None:
    done = tastestream("bundle", "check", str(copy))
    assert done.code == 0
    loaded = Bundle.load()
    [said] = done.out.splitlines()
    assert said.endswith(f"is intact; backbone {loaded.backbone_version}, embedder {loaded.embedder_version}")


def test_an_early_bundle_is_intact_and_has_no_backbone_by_itself(tastestream: Command, tmp_path: Path) -> None:
    early = write_early(Bundle.load(), tmp_path / "early")
    for command in ("check", "show"):
        done = tastestream("bundle", command, str(early))
        assert done.code == 0
        assert f"backbone inside the embedder, embedder {Bundle.load(early).embedder_version}" in done.out


def test_a_bundle_that_adapts_an_older_one_says_so(tastestream: Command, copy: Path) -> None:
    loaded = put_adapter(copy)
    for command in ("check", "show"):
        done = tastestream("bundle", command, str(copy))
        assert done.code == 0
        assert f"embedder {loaded.embedder_version}, adapts embedder {OLD}" in done.out.replace("\n", "")
    assert '"method": "by hand"' in done.out
    assert "adapts" not in tastestream("bundle", "show").out


def test_the_embedder_that_a_bundle_adapts_is_shown_as_text(tastestream: Command, copy: Path) -> None:
    put_adapter(copy, embedder_version="a\x1b[2J[red]\n\u202e")
    for command in ("check", "show"):
        done = tastestream("bundle", command, str(copy))
        assert done.code == 0
        assert "a\\x1b[2J[red]\\n\\u202e" in done.out.replace("\n", "")
        assert not UNSAFE.search(done.out.replace("\n", ""))


@pytest.mark.parametrize("name", ["backbone.onnx", "items.onnx", "aggregator.onnx"])
def test_one_flipped_bit_is_found_and_its_file_is_named(tastestream: Command, copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    assert f"{copy / name}: expected SHA-256" in the_one_line(tastestream("bundle", "check", str(copy)), 1)


@pytest.mark.parametrize("name", ["manifest.json", "backbone.onnx", "items.onnx", "aggregator.onnx"])
def test_a_missing_file_is_named(tastestream: Command, copy: Path, name: str) -> None:
    (copy / name).unlink()
    line = the_one_line(tastestream("bundle", "check", str(copy)), 1)
    assert str(copy / name) in line
    assert "found nothing" in line


def test_the_shipped_bundle_is_shown(tastestream: Command) -> None:
    done, loaded = tastestream("bundle", "show"), Bundle.load()
    assert done.code == 0
    assert "categories" in done.out
    assert f"backbone {loaded.backbone_version}, embedder {loaded.embedder_version}" in done.out


@pytest.mark.parametrize("name", ["[/]", "a[red]b", "a\x1b[2Jb", "\u202ename", ":smile:"])
def test_names_in_a_bundle_are_shown_as_text(tastestream: Command, copy: Path, name: str) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["name"] = name
    manifest["checksum"] = content_checksum(manifest)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    for command in ("show", "check"):
        done = tastestream("bundle", command, str(copy))
        assert done.code == 0
        assert visible(name) in done.out
        assert not UNSAFE.search(done.out.replace("\n", ""))


def test_an_ipv6_address_is_printed_as_it_is(tastestream: Command) -> None:
    assert "[fe80::1]:9092" in tastestream("settings", TASTESTREAM_BROKER="[fe80::1]:9092").out
