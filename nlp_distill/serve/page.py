"""The page on which a person tries the models, and the documentation: each one file that fetches nothing else."""

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from typing import Any

from nlp_distill.serve.models import Served
from nlp_distill.serve.requests import Limits

STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --soft: #5b6068; --page: #fff; --card: #f6f7f9; --line: #d9dce1;
  --student: #0b6bcb; --teacher: #b35900; --wrong: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --text: #e7e9ec; --soft: #a3a9b2; --page: #14161a; --card: #1d2026;
  --line: #363b44; --student: #6cb4ff; --teacher: #f0a04b; --wrong: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 52rem; padding: 1rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 1rem 0 .25rem; } h2 { font-size: 1.1rem; margin: 1.5rem 0 .25rem; }
.soft { color: var(--soft); } a { color: var(--student); }
label { display: block; margin: .75rem 0 .25rem; font-weight: 600; }
textarea { width: 100%; min-height: 5rem; padding: .6rem; border: 1px solid var(--line); border-radius: .5rem;
  background: var(--card); color: inherit; font: inherit; resize: vertical; }
summary { margin-top: .5rem; color: var(--soft); cursor: pointer; }
button { display: block; margin: .75rem 0; padding: .6rem 1.4rem; border: 0; border-radius: .5rem;
  background: var(--student); color: var(--page); font: inherit; font-weight: 600; cursor: pointer; }
button:disabled { opacity: .6; cursor: wait; }
:focus-visible { outline: 2px solid var(--student); outline-offset: 2px; }
#said { min-height: 1.5em; margin: .25rem 0; } #said.wrong { color: var(--wrong); }
#asked { margin: .25rem 0 .75rem; color: var(--soft); white-space: pre-wrap; max-height: 8rem; overflow-y: auto; }
#cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem; }
.card { padding: 1rem; background: var(--card); border-radius: .5rem; border-top: 4px solid var(--own); }
.card.student { --own: var(--student); } .card.teacher { --own: var(--teacher); }
.card h2 { margin: 0; color: var(--own); } .best { font-size: 1.4rem; font-weight: 600; margin: .25rem 0 .5rem; }
.row { display: grid; grid-template-columns: 1fr auto; gap: 0 .75rem; font-size: .9rem; margin: .35rem 0; }
.bar { grid-column: 1 / -1; height: .4rem; background: var(--line); border-radius: .2rem; overflow: hidden; }
.bar div { height: 100%; background: var(--own); } .time { margin: .75rem 0 0; }
pre { overflow-x: auto; background: var(--card); padding: .75rem; border-radius: .5rem; font-size: .85rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .9rem;
  overflow-wrap: break-word; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
"""

# Whatever comes from a person or a model becomes textContent: it is shown and never read as mark-up.
SCRIPT = """
"use strict";
const form = document.getElementById("form"), said = document.getElementById("said");
const cards = document.getElementById("cards"), asked = document.getElementById("asked");
const text = document.getElementById("text"), second = document.getElementById("second");
const more = document.getElementById("more");  // where the second text is optional; closed means that there is none
const button = form.querySelector("button"), pairs = document.body.dataset.pairs;
const MOST_BARS = 12;

function make(parent, tag, className, content) {
  const element = parent.appendChild(document.createElement(tag));
  element.className = className;
  if (content !== undefined) element.textContent = content;
  return element;
}

function say(message, isWrong) {
  said.textContent = message;
  said.className = isWrong ? "wrong" : "";
}

function time(ms) {
  return (ms < 10 ? ms.toFixed(2) : ms.toFixed(0)) + " ms";
}

function showModel(name, given) {
  const answer = given.answers[0], card = make(cards, "section", "card " + name);
  make(card, "h2", "", name);
  if (answer.probabilities) {
    make(card, "p", "best", answer.label);
    const rows = Object.entries(answer.probabilities).sort((one, other) => other[1] - one[1]);
    for (const [label, share] of rows.slice(0, MOST_BARS)) {
      const row = make(card, "div", "row");
      make(row, "span", "", label);
      make(row, "span", "", (100 * share).toFixed(1) + " %");
      make(make(row, "div", "bar"), "div", "").style.width = 100 * share + "%";
    }
    if (rows.length > MOST_BARS) make(card, "p", "soft", "and " + (rows.length - MOST_BARS) + " less likely ones");
  } else {
    make(card, "p", "best", answer.value.toFixed(3));
  }
  make(card, "p", "soft time", time(given.ms) + " in the model");
}

function compare(reply) {
  if (!reply.teacher) return "";
  const own = reply.student, other = reply.teacher, ratio = other.ms / own.ms, parts = [];
  if (own.answers[0].label !== undefined) {
    parts.push(own.answers[0].label === other.answers[0].label ? "They agree." : "They disagree.");
  } else {
    parts.push("They differ by " + Math.abs(own.answers[0].value - other.answers[0].value).toFixed(3) + ".");
  }
  if (Number.isFinite(ratio)) {
    const factor = Math.max(ratio, 1 / ratio).toFixed(1);
    parts.push("This time the student was " + factor + "× " + (ratio >= 1 ? "faster." : "slower."));
  }
  return parts.join(" ");
}

function question() {
  const other = second ? second.value : "";
  return pairs === "yes" || (more && more.open && other) ? [text.value, other] : text.value;
}

async function ask() {
  const given = question();
  button.disabled = true;
  say("Asking …");
  try {
    const response = await fetch("predict", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ texts: [given] }),
    });
    const reply = await response.json();
    cards.replaceChildren();
    asked.textContent = response.ok ? [given].flat().join("\\n") : "";
    if (!response.ok) return say(reply.error, true);
    for (const name of ["student", "teacher"]) if (reply[name]) showModel(name, reply[name]);
    say(compare(reply));
  } catch (error) {
    say("The service did not answer: " + error.message, true);
  } finally {
    button.disabled = false;
  }
}

form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !button.disabled) { event.preventDefault(); ask(); }
});
const asking = new URLSearchParams(location.search);
if (asking.has("text")) {
  text.value = asking.get("text");
  if (second && asking.has("second")) {
    second.value = asking.get("second");
    if (more) more.open = true;
  }
  ask();
}
"""


def hash_source(source: str) -> str:
    """A Content-Security-Policy source that allows this inline style or script and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


COMMON_POLICY = (
    f"default-src 'none'; style-src {hash_source(STYLE)}; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
PAGE_POLICY = f"{COMMON_POLICY}; script-src {hash_source(SCRIPT)}; connect-src 'self'"
DOCS_POLICY = COMMON_POLICY


def render_page(models: Mapping[str, Served], limits: Limits, is_pair: bool | None) -> str:
    """The page to try the models.

    Args:
        models: ``student``, and ``teacher`` where there is one.
        limits: of a request.
        is_pair: whether the models compare two texts; ``None`` where they answer both.
    """
    title = "Student and teacher, side by side" if "teacher" in models else "Try the student"
    said = "".join(f"<li><b>{role}</b>: {escape(_describe(model))}</li>" for role, model in models.items())
    fields = _field("text", "First text" if is_pair else "Text")
    if is_pair:
        fields += _field("second", "Second text")
    elif is_pair is None:  # for most models of that kind it would be in the way
        fields += (
            '<details id="more"><summary>A second text, for a model that compares two</summary>'
            f"{_field('second', 'Second text')}</details>"
        )
    body = (
        f'<h1>{title}</h1><p class="soft">Type a text of up to {limits.max_text_chars:,} characters. It goes to this '
        f'service and nowhere else. <a href="docs">For programs</a></p><ul class="soft">{said}</ul>'
        f'<form id="form">{fields}<button>Ask</button></form><p id="said" role="status"></p>'
        '<p id="asked"></p><div id="cards" aria-live="polite"></div>'
        "<noscript><p>This page needs JavaScript; the service itself does not.</p></noscript>"
    )
    pairs = "yes" if is_pair else "no"
    return _wrap(title, body, f' data-pairs="{pairs}"', f"<script>{SCRIPT}</script>")


def render_docs(api: Mapping[str, Any], url: str) -> str:
    """The OpenAPI document for people, with examples to copy.

    Args:
        api: the document.
        url: where the service is, as who reads this reached it.
    """
    predict = api["paths"]["/predict"]["post"]
    example = json.dumps(predict["requestBody"]["content"]["application/json"]["example"])
    address = f"{url.rstrip('/')}/predict"
    shell = f"curl {address} -H 'Content-Type: application/json' -d '{example}'"
    python = (
        "import json, urllib.request\n\n"
        f"body = json.dumps({example}).encode()\n"
        f'request = urllib.request.Request("{address}", body, {{"Content-Type": "application/json"}})\n'
        'print(json.load(urllib.request.urlopen(request))["student"]["answers"])'
    )
    rows = "".join(
        f"<tr><td>{method.upper()}</td><td>{escape(path)}</td><td>{escape(entry['summary'])}</td></tr>"
        for path, methods in api["paths"].items()
        for method, entry in methods.items()
    )
    statuses = "".join(
        f"<tr><td>{status}</td><td>{escape(entry['description'])}</td></tr>"
        for status, entry in predict["responses"].items()
    )
    schemas = "".join(
        f"<h2>{escape(name)}</h2><pre>{escape(json.dumps(schema, indent=2, ensure_ascii=False))}</pre>"
        for name, schema in api["components"]["schemas"].items()
    )
    body = (
        f'<h1>For programs</h1><p>{escape(api["info"]["description"])}</p><p><a href="./">Try it</a> · '
        '<a href="openapi.json">OpenAPI 3.1 document</a></p>'
        f'<div class="scroll"><table>{rows}</table></div><h2>In a shell</h2><pre>{escape(shell)}</pre>'
        f"<h2>In Python</h2><pre>{escape(python)}</pre><h2>What /predict answers</h2>"
        f"<p>{escape(predict['description'])} Every answer but 200 is an Error.</p>"
        f'<div class="scroll"><table>{statuses}</table></div>{schemas}'
    )
    return _wrap("For programs", body)


def _wrap(title: str, body: str, attributes: str = "", end: str = "") -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{STYLE}</style></head><body{attributes}>{body}{end}</body></html>\n"
    )


def _field(name: str, label: str) -> str:
    return f'<label for="{name}">{label}</label><textarea id="{name}" dir="auto"></textarea>'


def _describe(model: Served) -> str:
    shown = ", ".join(model.labels[:6]) + (", …" if len(model.labels) > 6 else "")
    return f"{model.name} ({shown or 'a number'}; reads the {model.kept_end} {model.max_length} tokens)"
