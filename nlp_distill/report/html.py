"""The page as one HTML file: nothing is fetched, nothing runs, and text from data is text."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from nlp_distill.report import svg
from nlp_distill.report.collect import Details, Example, Run, name_model
from nlp_distill.results import describe_cut_words, list_warnings, name_unit, say_ratio, show_agreement

STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --soft: #5b6068; --page: #fff; --card: #f6f7f9; --line: #d9dce1;
  --teacher: #b35900; --student: #0b6bcb; --other: #7a8089; --third: #2a8c4a; --fourth: #8b3fb0; }
@media (prefers-color-scheme: dark) { :root { --text: #e7e9ec; --soft: #a3a9b2; --page: #14161a; --card: #1d2026;
  --line: #363b44; --teacher: #f0a04b; --student: #6cb4ff; --other: #98a0ab; --third: #63c985; --fourth: #cf94ee; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 1rem 0 .25rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.soft { color: var(--soft); } .headline { font-size: 1.1rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th:first-child, td:first-child, .left td, .left th { text-align: left; } tr.student { font-weight: 600; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 1rem; }
figure { margin: 0; padding: .75rem; background: var(--card); border-radius: .5rem; }
figcaption { font-size: .9rem; color: var(--soft); margin-bottom: .25rem; } svg { width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--text); } svg .tick, svg .label { fill: var(--soft); }
svg .grid { stroke: var(--line); } svg .diagonal { stroke: var(--soft); stroke-dasharray: 4 4; }
svg .frontier { fill: none; stroke: var(--soft); stroke-dasharray: 3 3; } svg .line { fill: none; stroke-width: 2; }
svg .teacher, svg .s0 { fill: var(--teacher); } svg .student, svg .s1 { fill: var(--student); }
svg .other, svg .s2 { fill: var(--other); } svg .s3 { fill: var(--third); } svg .s4 { fill: var(--fourth); }
svg .line.s0 { stroke: var(--teacher); fill: none; } svg .line.s1 { stroke: var(--student); fill: none; }
svg .line.s2 { stroke: var(--other); fill: none; } svg .line.s3 { stroke: var(--third); fill: none; }
svg .line.s4 { stroke: var(--fourth); fill: none; }
td.text { max-width: 30rem; overflow-wrap: anywhere; } pre { overflow-x: auto; background: var(--card);
  padding: .75rem; border-radius: .5rem; font-size: .85rem; white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 40rem) { .left tr { display: grid; grid-template-columns: 1fr 1fr 1fr; }
  .left td.text, .left th:first-child { grid-column: 1 / -1; border-bottom: 0; padding-bottom: 0; max-width: none; } }
"""


def render_html(runs: Sequence[Run]) -> str:
    """The whole report as one page."""
    title = "Distillation report: " + ", ".join(dict.fromkeys(str(run.results["task"]) for run in runs))
    body = "".join(render_run(run) for run in runs)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


def render_run(run: Run) -> str:
    """One run, in the order in which a person asks: what came out, what it costs, what is behind it."""
    results = run.results
    parts = [
        f"<h1>{escape(str(results['task']))}</h1>",
        f'<p class="soft">{escape(run.name)}: {escape(str(results["metric"]))} on the test split, '
        f"{results['data']['test']['rows']:,} {name_unit(results)}; {escape(str(results.get('data_source', '')))}.</p>",
        f'<p class="headline">{say_headline(results)}</p>',
        render_models(results),
        render_plots(run),
    ]
    if run.details:
        parts.append(render_details(run.details))
    parts.append(render_background(results))
    return f"<section>{''.join(parts)}</section>"


def say_headline(results: Mapping[str, Any]) -> str:
    """What a manager reads."""
    models, said = results["models"], []
    if results.get("retention") is not None:
        said.append(f"The student keeps <b>{results['retention']:.1%}</b> of the teacher's score.")
    if "student" in models and models["student"].get("bytes"):
        smaller = models["teacher"]["bytes"] / models["student"]["bytes"]
        said.append(f"It is <b>{say_ratio(smaller, 'smaller', 'larger')}</b>.")
    if "speed" in results:
        median = results["speed"]["median_ms"]
        said.append(
            f"One text at a time it is <b>{say_ratio(median['teacher'] / median['student'], 'faster', 'slower')}</b> "
            f"({median['teacher']:.1f} ms and {median['student']:.1f} ms on {results['speed']['threads']} thread(s))."
        )
    said += [f"<b>{escape(text)}</b>" for text in list_warnings(models)]
    if results.get("gap_closed") is not None:
        said.append(
            f"Distillation closes <b>{results['gap_closed']:.0%}</b> of the gap between the same student trained "
            "without a teacher and the teacher."
        )
    return " ".join(said)


def render_models(results: Mapping[str, Any]) -> str:
    """The table: teacher, the student without it, the student."""
    metric, models = str(results["metric"]), results["models"]
    header = ["model", metric, "agrees with teacher", "parameters", "MB"]
    rows = []
    for arm, model in models.items():
        scores = model.get("scores", [])
        spread = f" ({min(scores):.4f}–{max(scores):.4f})" if len(scores) > 1 else ""
        cells = [name_model(arm), f"{model['score']:.4f}{spread}", show_agreement(model)]
        cells += [f"{model['parameters']:,}", f"{model['bytes'] / 1e6:.1f}"]
        kind = ' class="student"' if arm == "student" else ""
        rows.append(f"<tr{kind}>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>")
    return _table(header, rows)


def render_plots(run: Run) -> str:
    """Score against size and time, training curves, calibration."""
    results, metric = run.results, str(run.results["metric"])
    sizes = [
        (model["bytes"] / 1e6, model["score"], name_model(arm), _kind(arm))
        for arm, model in results["models"].items()
        if model.get("bytes")
    ]
    plots = []
    if len(sizes) > 1:
        plots.append(_figure("Score against size on disk", svg.scatter(sizes, "MB", metric)))
    if "speed" in results:
        median = results["speed"]["median_ms"]
        times = [
            (
                median["teacher" if arm == "teacher" else "student"],
                model["score"],
                name_model(arm),
                _kind(arm),
            )
            for arm, model in results["models"].items()
        ]
        plots.append(_figure("Score against time for one text", svg.scatter(times, "milliseconds", metric)))
    if run.curves:
        curves = {name_model(arm): curve for arm, curve in run.curves.items()}
        plots.append(
            _figure(
                "Validation score while training", svg.lines(curves, "epoch", metric, name_model("student"))
            )
        )
    if run.details:
        plots.append(_figure("Is it right as often as it is sure?", svg.calibration(run.details.calibration)))
    return f'<h2>Price and performance</h2><div class="plots">{"".join(plots)}</div>' if plots else ""


def render_details(details: Details) -> str:
    """Per-class scores, confusion, disagreements."""
    rows = []
    for number, label in enumerate(details.labels):
        teacher, student = (details.per_class[side][number] for side in ("teacher", "student"))
        cells = [label, f"{int(student['rows']):,}"]
        cells += [
            f"{side[name]:.3f}" for side in (teacher, student) for name in ("precision", "recall", "f1")
        ]
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    header = ["class", "rows"] + [
        f"{side} {n}" for side in ("teacher", "student") for n in ("precision", "recall", "F1")
    ]
    parts = ["<h2>By class</h2>", _table(header, rows)]
    parts.append('<div class="plots">')
    for side in ("teacher", "student"):
        counts = [
            "<tr>" + f"<td>{escape(label)}</td>" + "".join(f"<td>{count:,}</td>" for count in own) + "</tr>"
            for label, own in zip(details.labels, details.confusion[side], strict=True)
        ]
        caption = f"What the {side} answers (columns) for each true class (rows)"
        parts.append(_figure(caption, _table(["", *details.labels], counts)))
    parts.append("</div><h2>Where they disagree</h2>")
    share = details.disagreements / details.rows
    parts.append(
        f"<p>Teacher and student disagree on {details.disagreements:,} of {details.rows:,} rows ({share:.1%})."
    )
    if details.examples:
        parts.append(" The surest of these:</p>")
        shown = [_render_example(example) for example in details.examples]
        parts.append(_table(["text", "label", "teacher", "student"], shown, "left"))
    else:
        parts.append("</p>")
    return "".join(parts)


def render_background(results: Mapping[str, Any]) -> str:
    """Data, times, versions and the command."""
    rows, unit = results["data"]["train"]["rows"], name_unit(results)
    said = [f"Labelled {unit}: {rows:,}."]
    if "transfer_set" in results:
        said.append(f"Transfer set: {results['transfer_set']['rows']:,} {unit}.")
    if cut := describe_cut_words(results):
        said.append(cut)
    said.append(f"Seeds: {', '.join(map(str, results['seeds']))}.")
    times = ", ".join(
        f"{name.replace('_', ' ')} {seconds:,.0f} s" for name, seconds in results["timings_s"].items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return (
        f"<h2>How it was made</h2><p>{escape(' '.join(said))}</p><p class='soft'>{escape(times)}</p>"
        f"<pre>{escape(str(results.get('command', '')))}</pre><p class='soft'>{escape(versions)}</p>"
    )


def _render_example(example: Example) -> str:
    cells = [f'<td class="text">{escape(example.text)}</td>', f"<td>{escape(example.label)}</td>"]
    for answer, sure in (example.teacher, example.student):
        mark = "✓" if answer == example.label else "✗"
        cells.append(f"<td>{mark} {escape(answer)} ({sure:.0%})</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _kind(arm: str) -> str:
    return arm if arm in ("teacher", "student") else "other"


def _figure(caption: str, content: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{content}</figure>"


def _table(header: Sequence[str], rows: Sequence[str], kind: str = "") -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
