"""A report on runs: one self-contained page of HTML.

Run folders become the content of a page (:func:`content`), and that becomes HTML (:func:`html`).
"""

from contrastkit.report.building import Written, content, report
from contrastkit.report.content import Page
from contrastkit.report.rendering import html

__all__ = ["Page", "Written", "content", "html", "report"]
