"""Renders pages with Jinja. All pages share these filters and the macros in `templates/shared.html.j2`."""

from base64 import b64encode

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from offline_training.report.drawing import COLOURS, GROUND
from offline_training.report.parts import Chart, cell


def environment(package: str) -> Environment:
    """Return the Jinja environment of a package's templates, which can import those of this package."""
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
    """Return a chart's SVG with the page's CSS variables as colours, and without a ground, which would hide that its box scrolls."""
    svg = chart.svg.replace(f"fill: {GROUND}", "fill: none")
    for name, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return Markup(svg)  # noqa: S704  (Matplotlib escapes the texts in it)


def jpeg(picture: bytes) -> str:
    """Return a data URL of a JPEG."""
    return f"data:image/jpeg;base64,{b64encode(picture).decode()}"
