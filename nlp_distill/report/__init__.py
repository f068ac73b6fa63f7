"""A page about a run, or several: what was kept, what it costs, and where teacher and student disagree."""

from nlp_distill.report.collect import Details, Run, collect_run
from nlp_distill.report.html import render_html
from nlp_distill.report.markdown import render_markdown

__all__ = ["Details", "Run", "collect_run", "render_html", "render_markdown"]
