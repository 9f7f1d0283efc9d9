"""A page as HTML."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from contrastkit.report.content import Page


@cache
def _template() -> Template:
    loader = PackageLoader("contrastkit.report", ".")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html")


def html(page: Page) -> str:
    """The whole page: style and pictures are in it, and it loads nothing."""
    return _template().render(page=page)
