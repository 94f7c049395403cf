"""From parts to a page: Jinja with the filters and the macros (`templates/shared.html.j2`) that all pages have in common."""

from base64 import b64encode

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from offline_training.report.drawing import COLOURS
from offline_training.report.parts import Chart, cell


def environment(package: str) -> Environment:
    """Templates of a package, which may import those of this one."""
    loaders = [PackageLoader(name) for name in (package, "offline_training.report")]
    made = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"cell": cell, "inline": inline, "jpeg": jpeg}
    return made


def inline(chart: Chart) -> Markup:
    """A chart as part of the page, its colours those of the page."""
    svg = chart.svg
    for name, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return Markup(svg)  # noqa: S704  (matplotlib's, which escapes what is in it)


def jpeg(picture: bytes) -> str:
    """As a URL that holds it."""
    return f"data:image/jpeg;base64,{b64encode(picture).decode()}"
