"""Writes the pages of `docs/reference/` from the code: `make reference`, or `python -m tests.docs.reference`.

`tests/docs/test_reference.py` fails while a committed page differs from what this module would write.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
import prometheus_client
import typer
from pydantic.fields import FieldInfo
from typer.models import ArgumentInfo, CommandInfo, OptionInfo

from streams import metrics, schema
from streams.cli import COMMANDS, common
from streams.dead_letter import PREFIX as HEADER_PREFIX
from streams.kafka.topics import topic_specs
from streams.messages import EVENT_ID_HEADER
from streams.metrics import supervisor
from streams.metrics.histogram import EventHistogram
from streams.metrics.live import LiveMetric
from streams.serve.api.app import OPENAPI, ROUTES
from streams.serve.api.problems import PROBLEMS
from streams.serve.api.routes import Route
from streams.settings import PREFIX, Settings

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
EXAMPLE_RECOMMENDATION = """\
{"user_id": "ada", "event_id": "...", "timestamp": "2014-05-01T12:00:00Z", "produced_at": "...",
 "model": {"name": "...", "version": "..."},
 "bag_size": 7, "cold_start": false,
 "categories": [{"category": "camera", "score": 0.93}, ...],
 "attention": [{"item_id": "B00005N7NQ", "weight": 0.41}, ...],
 "fields": [{"field": "colour", "values": [{"category": "colour > red", "score": 0.52}, ...]}, ...],
 "trend_version": 4711}"""
API: dict[str, Any] = msgspec.json.decode(OPENAPI)
GENERATED = "<!-- Generated from the code. Change the code, then run: make reference -->\n"


def pages() -> dict[str, str]:
    """All reference pages: file name to Markdown."""
    written = {
        "messages.md": messages_page(),
        "cli.md": cli_page(),
        "settings.md": settings_page(),
        "metrics.md": metrics_page(),
        "api.md": api_page(),
    }
    pages = {name: f"{GENERATED}\n{text.strip()}\n" for name, text in written.items()}
    return pages | {"openapi.json": json(API) + "\n"}


def row(*cells: object) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """A Markdown table."""
    return "\n".join([row(*head), row(*("---" for _ in head)), *(row(*cells) for cells in rows)])


def code(value: object) -> str:
    """Inline code; nothing for an empty value."""
    return f"`{value}`" if str(value) else ""


# -- settings


def settings_page() -> str:
    """Every setting with its type, default and description."""
    rows: list[tuple[object, ...]] = [
        (code(name.upper()), kind(field.annotation), default(name, field), sentence(field.description or ""))
        for name, field in Settings.model_fields.items()
    ]
    return f"""
# Settings

Each setting comes from the first of these that has it:

1. the environment variable `{PREFIX}NAME`,
2. the same variable in a `.env` file in the working folder,
3. the lower-case name in the TOML file of `tastestream --config FILE.toml`,
4. the default below.

Durations are seconds and sizes are bytes, unless the description says otherwise. `tastestream settings` prints the values in force.
[Settings and metrics](../operate/settings-and-metrics.md) says which ones to look at first.

{table(("setting", "type", "default", "what it is"), rows)}
"""


def kind(annotation: Any) -> str:
    """A type in a word or two."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "one of " + ", ".join(code(one) for one in arguments)
    if arguments and type(None) in arguments:
        return kind(next(one for one in arguments if one is not type(None)))
    if origin in (tuple, list, frozenset, set):
        return "list"
    if origin is dict:
        return "pairs"
    names = {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path"}
    return names.get(annotation, "text")


def default(name: str, field: FieldInfo) -> str:
    """The default as somebody would write it."""
    value = field.get_default(call_default_factory=True)
    if value is None or value in ("", ()) or not str(value):
        return "not set"
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, dict):
        return code(",".join(f"{key}={one:g}" for key, one in value.items()))
    if isinstance(value, tuple):
        return code(",".join(map(str, value)))
    if isinstance(value, float):
        return code(f"{value:g}" if value < 1e6 else int(value))
    text = str(value)
    return "not set" if set(text) == {"*"} else code(text.replace(version("tastestream"), "VERSION"))


def sentence(text: str) -> str:
    """A text with a capital at the start and a full stop at the end."""
    text = " ".join(text.split())
    first = text[:1] if text.startswith("http") else text[:1].upper()
    return f"{first}{text[1:]}{'' if text.endswith(('.', ':')) else '.'}" if text else ""


# -- metrics


def metrics_page() -> str:
    """Every metric of the workers."""
    return f"""
# Metrics

Each worker serves `/metrics` in the Prometheus text format: the embed worker on `EMBED_PORT`, the profile worker on `PROFILE_PORT`,
both on `WEB_HOST`, and the serve worker on `SERVE_PORT`
(see [Settings](settings.md)). Only the serve worker asks for a token, if there is one.

{metrics_table(metrics)}

A histogram also has `_bucket`, `_sum` and `_count` series. The Python client adds `process_*` and `python_*` metrics, such as
`process_resident_memory_bytes`. The [runbook](../operate/runbook.md) says what to do when one of them looks wrong.

## Of the supervisor

With `SUPERVISOR_PORT`, `tastestream worker all` serves the metrics of all its workers on one page. There each sample has a label
`worker`. These are its own:

{metrics_table(supervisor)}
"""


def metrics_table(module: ModuleType) -> str:
    """A table of the metrics that a module defines."""
    rows: list[tuple[object, ...]] = []
    for collector in vars(module).values():
        if isinstance(collector, prometheus_client.metrics.MetricWrapperBase | EventHistogram | LiveMetric):
            [described] = collector.describe()
            suffix = "_total" if described.type == "counter" else ""
            ours = isinstance(collector, EventHistogram | LiveMetric)
            names = collector.labelnames if ours else collector._labelnames
            labels = ", ".join(map(code, names))
            rows.append((code(described.name + suffix), described.type, labels, sentence(described.documentation)))
    return table(("metric", "type", "labels", "what it is"), rows)


# -- messages


def messages_page() -> str:
    """The topics, and the fields of the messages on them."""
    settings = Settings.model_construct()
    specs = topic_specs(settings)
    topics: list[tuple[object, ...]] = [
        (code(spec.name), sentence(spec.what), spec.cleanup, ", ".join(f"`{key}={one}`" for key, one in spec.configs.items()))
        for spec in specs
    ]  # fmt: skip
    interaction, recommendation = schema.interaction_schema(), schema.recommendation_schema()
    item = schema.item_schema()
    return f"""
# Messages

## Topics

{table(("topic", "what is on it", "cleanup policy", "other topic settings at creation"), topics)}

The names are the defaults of the settings `*_TOPIC`. With a `NAMESPACE`, they begin with it and a hyphen.
The workers create missing topics, and refuse topics that cannot work.
`{settings.embedded_topic}` and `{settings.bags_changelog}` must have equally many partitions.

## Interaction

A JSON object on `{settings.interactions_topic}`. Any key is accepted, because the workers read the user from the body.
With the user id as the key, the events of a user keep their order. Unknown fields are ignored.

{fields(interaction, "InteractionMessage")}

- A `return` takes the item out of the bag. It needs no picture. An `erase` forgets the user. It needs `user_id` and `timestamp` only.
- `timestamp` may be at most `MAX_FUTURE` ahead of the clock, and not before `EARLIEST_DATE`.
- Without `event_id`, the id is derived from the other fields, so a resend is still the same event.

```json
{json(schema.EXAMPLE_INTERACTION)}
```

## Item

A JSON object on `{settings.items_topic}`, keyed by the item id. The topic is optional:
[Send your catalogue](../operate/items.md) says what it is for. Null removes the item. Unknown fields are ignored.

{fields(item, "ItemMessage")}

- The key is required, because the topic is compacted. `item_id` in the value has to be the same, if it is there.
- Labels in `categories` are compared without regard to case.

```json
{json(schema.EXAMPLE_ITEM)}
```

## Recommendation

A JSON object on `{settings.recommendations_topic}`, keyed by the user id. There is one recommendation for each event, and the topic
is compacted. The value is null after an erasure; then the header `{EVENT_ID_HEADER}` holds the id of the event.

{fields(recommendation, "Recommendation")}

```
{EXAMPLE_RECOMMENDATION}
```

- `categories` has the best `TOP_K` categories (10 by default), best first. Each has a `category` and a `score` between 0 and 1.
- `attention` has the `TOP_K` heaviest items, heaviest first. Each has an `item_id` and a `weight`. The weights of a bag sum to 1.
- `cold_start` is true when the bag is empty, for example after all items were returned. The categories are then the model's prior. A
  bundle that uses the trend names what all users take now instead.
- `fields` has the best three values of each field, best first: of categories that exclude each other, such as the colours. The scores
  of all values of a field sum to 1. It is empty for a bundle without fields.
- `trend_version` names the trend that the scores are made with: the offset on `category-trend` up to which the worker had read that
  topic. With it and the bag, the answer can be computed again. It is null for a bundle that does not use the trend, and before the
  first record of that topic.

## Embedded interaction

MessagePack between the two workers, keyed by the user id. This topic is internal: its format may change with any version.

{fields(schema.json_schema(schema.EmbeddedInteraction), "EmbeddedInteraction")}

## Dead letter

The key, value and headers of the original record, with added headers `{HEADER_PREFIX}*` that say why.
[Dead letters](../operate/dead-letters.md) lists the headers and the reasons.

## JSON Schema and AsyncAPI

`tastestream schema` prints these documents, together with an AsyncAPI 3.0 document of all topics.

??? note "JSON Schema of an interaction"

    ```json
{indented(json(interaction))}
    ```

??? note "JSON Schema of an item"

    ```json
{indented(json(item))}
    ```

??? note "JSON Schema of a recommendation"

    ```json
{indented(json(recommendation))}
    ```
"""


def json(document: Any) -> str:
    """Indented JSON."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def indented(text: str) -> str:
    """A text four columns to the right."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def fields(document: dict[str, Any], name: str) -> str:
    """The table of a message's fields."""
    message = document["$defs"][name]
    required = set(message.get("required", ()))
    rows: list[tuple[object, ...]] = []
    for field, about in message["properties"].items():
        options = [one for one in about.get("anyOf", [about]) if one.get("type") != "null"]
        meaning = sentence("; or ".join(dict.fromkeys(one["description"] for one in options if "description" in one)))
        types = " or ".join(dict.fromkeys(json_type(one) for one in options))
        limits = ", ".join(dict.fromkeys(limit for one in options for limit in limits_of(one)))
        rows.append((code(field), types, "yes" if field in required else "no", limits, meaning))
    return table(("field", "type", "always there", "limits", "what it is"), rows)


def json_type(about: dict[str, Any]) -> str:
    """The type of a field in a word or two."""
    if "enum" in about:
        return "one of " + ", ".join(map(code, about["enum"]))
    if "$ref" in about:
        return "object"
    if about.get("format") == "date-time":
        return "RFC 3339 time"
    if about.get("contentEncoding"):
        return "bytes"
    return {"array": "list"}.get(str(about.get("type")), str(about.get("type")))


def limits_of(about: dict[str, Any]) -> Iterator[str]:
    """The limits of a field."""
    if "maxLength" in about:
        yield f"{about.get('minLength', 0)} to {about['maxLength']} characters"
    if "pattern" in about.get("not", {}):
        yield "no control characters"
    if "maximum" in about:
        yield f"{about.get('minimum', '')} to {about['maximum']}"
    elif "minimum" in about:
        yield f"at least {about['minimum']}"


# -- HTTP API


def api_page() -> str:
    """Every route of the HTTP API, the types, and the problems."""
    routes: list[tuple[object, ...]] = [
        (code(f"{route.method} {route.path}"), code(route.scope or ""), sentence(route.summary)) for route in ROUTES
    ]
    problems: list[tuple[object, ...]] = [
        (code(reason), kind.status, sentence(kind.title), sentence(kind.remedy)) for reason, kind in PROBLEMS.items()
    ]
    schemas = API["components"]["schemas"]
    types = [
        f"### {name}\n\n{sentence(plain(about.get('description')))}\n\n{fields({'$defs': schemas}, name)}"
        for name, about in sorted(schemas.items())
        if about.get("properties")
    ]
    common = [reason for reason in PROBLEMS if all(reason in route.reasons for route in ROUTES if route.scope)]
    routes_below = [route_part(route, common) for route in ROUTES]
    return f"""
# HTTP API

The serve worker answers on `SERVE_HOST` and `SERVE_PORT` (see [Settings](settings.md)).
[How do I ask over HTTP?](../use/api.md) shows the routes at work. [openapi.json](openapi.json) is this page for programs.

{table(("route", "scope", "what it does"), routes)}

A route without a scope needs no token. `admin` includes `read` and `write`.
Each `GET` has a `HEAD`, and each path `OPTIONS`. An unknown parameter is refused.

## Routes

Each route with a scope can also refuse a request with {", ".join(map(code, common))}.

{chr(10).join(routes_below)}

## Types

{(chr(10) * 2).join(types)}

## Problems

Each refusal is a `ProblemDocument`. Its `type` is `/problems/` and the reason.

{table(("reason", "status", "what is wrong", "what to do"), problems)}
"""


def route_part(route: Route, common: list[str]) -> str:
    """The section of a route. common: the problems that are not repeated."""
    operation = API["paths"][route.path][route.method.lower()]
    rows: list[tuple[object, ...]] = [
        (
            code(one["name"]), one["in"], json_type(one["schema"]), ", ".join(limits_of(one["schema"])),
            code(str(one["schema"].get("default", "")).lower()), sentence(one.get("description", "")),
        )
        for one in operation["parameters"]
    ]  # fmt: skip
    parts = [f"### {route.method} {route.path}", sentence(operation["summary"])]
    if rows:
        parts.append(table(("parameter", "in", "type", "limits", "default", "what it is"), rows))
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"Body, {code(media)}: {schema_name(content['schema'])}.")
    for status in (route.status, *route.also):
        about = operation["responses"][str(status)]
        named = [
            schema_name(one["schema"]) for media, one in about.get("content", {}).items() if "problem" not in media
        ]
        parts.append(f"{status}: {', '.join(named) or 'no body'}. {route.also.get(status, '')}".strip())
    own = [reason for reason in route.reasons if reason not in common]
    if own:
        parts.append(f"Problems: {', '.join(map(code, own))}.")
    return "\n\n".join(parts) + "\n"


def schema_name(about: dict[str, Any]) -> str:
    """A schema by its name, as a link."""
    if "$ref" in about:
        name = about["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if about.get("type") == "array":
        return f"list of {schema_name(about['items'])}"
    if "anyOf" in about:
        return ", or ".join(map(schema_name, about["anyOf"]))
    if "properties" in about:
        return "fields " + ", ".join(map(code, about["properties"]))
    return str(about.get("type", "any"))


# -- command line


def cli_page() -> str:
    """Every command with its arguments and options."""
    parts = [
        "# Command line",
        "Options of all commands come before the command: `tastestream --config FILE.toml worker all`. `--config` may stand anywhere.",
        options_table(common),
        "Exit codes: 0 done or stopped, 1 failed (for a worker: crashed, and a restart helps), 2 bad argument, 69 no broker, "
        "78 misconfigured (a restart does not help), 130 stopped by Ctrl-C, 143 stopped by SIGTERM (not a worker, which ends with 0).",
    ]
    mounted_apps = {mounted.app for mounted in COMMANDS.values()}
    for name, mounted in COMMANDS.items():
        path, _, attribute = mounted.app.partition(":")
        module = importlib.import_module(path)
        parts.extend(app_parts(f"tastestream {name}", getattr(module, attribute), mounted.extra))
        for other, below in vars(module).items():  # a command below one that takes arguments itself: `replay compare`
            if isinstance(below, typer.Typer) and f"{path}:{other}" not in mounted_apps:
                parts.extend(app_parts(f"tastestream {name} {other.removesuffix('_app')}", below, ""))
    return "\n\n".join(part for part in parts if part)


def app_parts(name: str, mounted: typer.Typer, extra: str) -> Iterator[str]:
    """The sections of a mounted command, and of the commands below it."""
    commands = mounted.registered_commands
    callback = mounted.registered_callback
    needs = f"Needs the extra `{extra}`: `pip install 'tastestream[{extra}]'`." if extra else ""
    group = len(commands) > 1 or bool(mounted.registered_groups) or mounted.registered_callback is not None
    if not group:
        yield from command_parts(name, commands[0], 2, needs)
        return
    yield f"## {name}"
    yield plain((callback and callback.callback and callback.callback.__doc__) or str(mounted.info.help or ""))
    yield needs
    if (
        callback and callback.callback and list(parameters(callback.callback))
    ):  # it does something without a subcommand, too
        yield f"```\n{name} [OPTIONS]\n```"
        yield options_table(callback.callback)
    for command in commands:
        yield from command_parts(f"{name} {command_name(command)}", command, 3)
    for below in mounted.registered_groups:
        if below.typer_instance is not None:
            yield from app_parts(f"{name} {below.name}", below.typer_instance, "")


def command_name(command: CommandInfo) -> str:
    """The name under which typer registers a command."""
    return command.name or str(getattr(command.callback, "__name__", "")).replace("_", "-")


def command_parts(name: str, command: CommandInfo, level: int, needs: str = "") -> Iterator[str]:
    """The section of one command."""
    if command.hidden or command.callback is None:
        return
    yield f"{'#' * level} {name}"
    paragraphs = plain(command.help or command.callback.__doc__).split("\n\n")
    yield "\n\n".join(one for one in paragraphs if not one.startswith("Example: "))
    yield needs
    words = [name, *(one.name for one in parameters(command.callback) if one.argument), "[OPTIONS]"]
    yield f"```\n{' '.join(words)}\n```"
    yield options_table(command.callback)
    example = plain(command.epilog).removeprefix("Example: ")
    if example:
        yield f"For example:\n\n```sh\n{example}\n```"


class Parameter(NamedTuple):
    """An argument or an option of a command."""

    name: str  # as somebody writes it, with what follows
    argument: bool
    default: str
    help: str


def parameters(command: Callable[..., Any]) -> Iterator[Parameter]:
    """The arguments and options that are not hidden, from the signature that typer reads."""
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        if get_origin(hints[name]) is not Annotated:
            continue
        annotation, info = get_args(hints[name])[:2]
        if not info.hidden:
            argument = isinstance(info, ArgumentInfo)
            written = argument_name(name, annotation, info) if argument else option_name(name, annotation, info)
            yield Parameter(written, argument, shown_default(parameter.default, info), sentence(plain(info.help)))


def argument_name(name: str, annotation: Any, info: ArgumentInfo) -> str:
    """The argument in capitals, or its choices."""
    choices = isinstance(annotation, type) and issubclass(annotation, Enum)
    return value_type(annotation) if choices else str(info.metavar or name).upper()


def option_name(name: str, annotation: Any, info: OptionInfo) -> str:
    """`--name TYPE`, or `--yes/--no` of a flag."""
    dashed = name.replace("_", "-")
    given: list[Any] = [
        info.default,
        *(info.param_decls or ()),
    ]  # typer keeps the first name of an option as its default
    declared = " ".join(one for one in given if isinstance(one, str) and one.startswith("-"))
    names = declared or (f"--{dashed}/--no-{dashed}" if annotation is bool else f"--{dashed}")
    return names if annotation is bool else f"{names} {info.metavar or value_type(annotation)}"


def value_type(annotation: Any) -> str:
    """What stands behind an option: the type of its value, in capitals, or the choices."""
    arguments = [one for one in get_args(annotation) if one is not type(None)]
    if get_origin(annotation) is Literal:
        return "|".join(map(str, arguments))
    if arguments:
        return value_type(arguments[0])
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "|".join(str(one.value) for one in annotation)
    return {int: "INTEGER", float: "NUMBER", Path: "PATH"}.get(annotation, "TEXT")


def options_table(command: Callable[..., Any]) -> str:
    """The table of a command's arguments and options; nothing when it has none."""
    rows: list[tuple[object, ...]] = [(code(one.name), one.default, one.help) for one in parameters(command)]
    return table(("argument or option", "default", "what it does"), rows) if rows else ""


def shown_default(value: Any, info: OptionInfo | ArgumentInfo) -> str:
    """The default as `--help` shows it."""
    if value is inspect.Parameter.empty or value is ...:
        return "required"
    if isinstance(info.show_default, str):
        return info.show_default
    if value is None or value is False or value == "" or info.show_default is False:
        return ""
    return "on" if value is True else code(getattr(value, "value", value))


def plain(text: str | None) -> str:
    """A help text as Markdown: rich's markup and the wrapping of its source go, paragraphs stay."""
    text = re.sub(r"\[/?(bold|dim|italic)\]", "", text or "")
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(escaped(" ".join(paragraph.split())) for paragraph in paragraphs)


def escaped(text: str) -> str:
    """A text whose angle brackets and asterisks stay what they are in Markdown."""
    return text.replace("<", "&lt;").replace("*", "\\*")


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
        sys.stdout.write(f"wrote docs/reference/{name}\n")


if __name__ == "__main__":
    main()
