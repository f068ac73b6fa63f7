"""Model cards: what a saved model says about itself on a hub, or to whoever finds the folder.

The front matter is what the hub reads: how to load it, licence, teacher, data, and the measured scores.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nlp_distill.models import labels_tokens
from nlp_distill.results import drop_place, list_warnings, render_model_table
from nlp_distill.stages import write_whole
from nlp_distill.tasks.glue import GLUE, HUB_DATASET

CARD = "README.md"
OURS = "nlp-distill-"  # model types that transformers does not know by itself
PACKAGED_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
LICENCE = {"license": "other", "license_name": "that-of-teacher-and-data"}
LIMITATIONS = (
    "It imitates its teacher, mistakes and biases included, and was measured on the rows above only. Texts unlike them "
    "may be answered worse than by the teacher."
)
RIGHTS = "The licences of the teacher and of the data apply to it; this card cannot know them."


def write_cards(results: Mapping[str, Any], students: Sequence[Mapping[str, Any]]) -> None:
    """A card into the folder of each distilled student.

    Args:
        results: the content of the run's ``results.json``.
        students: the entry of each student, with ``path``, ``score`` and ``metrics``, one a seed.
    """
    for seed, entry in zip(results["seeds"], students, strict=True):
        folder = Path(entry["path"])
        write_whole(folder / CARD, render_card(results, entry, seed, folder))


# ---- one card for each kind of model --------------------------------------------------------------------------------


def render_card(
    results: Mapping[str, Any], entry: Mapping[str, Any], seed: int, folder: Path, name: str | None = None
) -> str:
    """The card of a student of one task.

    Args:
        results: the content of the run's ``results.json``.
        entry: the student's scores.
        seed: its seed.
        folder: where it is saved.
        name: what it is loaded by; the folder's name if left out, a hub name once it is on the hub.
    """
    name = name or folder.name
    task, metric, teacher = results["task"], results["metric"], results["models"]["teacher"]
    said = (
        f"{entry['score']:.4f} {metric} on the test split of {task}; its teacher has {teacher['score']:.4f}"
    )
    without = results["models"].get("student_without_teacher")
    if without:  # of the same seed: the entry's own score is the mean of all
        scores = dict(zip(results["seeds"], without.get("scores", ()), strict=False))
        said += f", and the same model trained without a teacher {scores.get(seed, without['score']):.4f}"
    rows = {split: f"{results['data'][split]['rows']:,}" for split in ("train", "test")}
    made = f"{rows['train']} labelled rows, a transfer set of {results['transfer_set']['rows']:,} rows labelled by it"
    fields = describe_classifier(
        name, [(task, results["data_source"], entry["metrics"])], _is_spacy(folder), _read_kind(folder)
    )
    return assemble_card(
        fields | describe_base(teacher.get("path")),
        name,
        f"A student for {task}, distilled with nlp_distill. It reaches {said}.",
        _use_spacy(name) if _is_spacy(folder) else _use_pipeline(name, folder, results.get("is_pair", False)),
        [
            *_describe_run(results, f"(this is seed {seed})"),
            *([f"Teacher: `{drop_place(teacher['path'])}`."] if teacher.get("path") else []),
            f"Data: {results['data_source']}; the teacher's {made}; {rows['test']} test rows, whose SHA-256 is "
            f"`{results['data']['test']['sha256']}`.",
        ],
        results.get("config"),
        render_model_table(results["models"], metric),
        " ".join([*list_warnings(results["models"]), LIMITATIONS, RIGHTS]),
    )


def render_teacher_card(
    results: Mapping[str, Any], encoder: str, folder: Path, name: str | None = None
) -> str:
    """The card of a fine-tuned model.

    Args:
        results: the content of its ``results.json``.
        encoder: what it was made from: ``packaged``, a folder or a hub name.
        folder: where it is saved.
        name: as in :func:`render_card`.
    """
    name = name or folder.resolve().name
    task, metric, entry = results["task"], results["metric"], results["models"]["teacher"]
    base = PACKAGED_ENCODER if encoder == "packaged" else encoder
    return assemble_card(
        describe_classifier(name, [(task, results["data_source"], entry["metrics"])], kind=_read_kind(folder))
        | describe_base(base),
        name,
        f"`{drop_place(base)}`, fine-tuned for {task} with nlp_distill. It reaches {entry['score']:.4f} {metric} on "
        "the test split.",
        _use_pipeline(name, folder, results.get("is_pair", False)),
        [
            *_describe_run(results, f"(seed {results['seeds'][0]})"),
            f"Data: {results['data_source']}; {results['data']['train']['rows']:,} labelled rows; "
            f"{results['data']['test']['rows']:,} test rows, whose SHA-256 is `{results['data']['test']['sha256']}`.",
        ],
        results.get("config"),
        render_model_table(results["models"], metric),
        f"It was measured on the rows above only; texts unlike them may be answered worse. "
        f"{RIGHTS.replace('teacher', 'pre-trained model')}",
    )


def render_general_card(
    results: Mapping[str, Any], teacher: str, folder: Path, name: str | None = None
) -> str:
    """The card of a general student: ``results`` are those of ``nlp-distill distill general``."""
    name = name or folder.name
    base = PACKAGED_ENCODER if teacher == "packaged" else teacher
    own, other = results["models"]["student"], results["models"]["teacher"]
    kind = _read_config(folder).get("architectures") or [""]
    has_head = kind[0].endswith("MaskedLM")
    fields = {
        "library_name": "transformers",
        "pipeline_tag": "fill-mask" if has_head else "feature-extraction",
        **LICENCE,
        "tags": ["knowledge-distillation", "nlp_distill"],
    }
    return assemble_card(
        fields | describe_base(base),
        name,
        f"A small encoder with {own['parameters']:,} parameters, distilled from `{drop_place(base)}` (which has "
        f"{other['parameters']:,}) on plain text with nlp_distill. It is made to be fine-tuned or distilled further on "
        "a task, and has no score of its own.",
        [
            "```python",
            "from transformers import AutoModel, AutoTokenizer",
            "",
            f'tokenizer = AutoTokenizer.from_pretrained("{name}")',
            f'model = AutoModel.from_pretrained("{name}")',
            "```",
            "",
            f"Or as a start: `nlp-distill distill tinybert --general {name} ...`.",
        ],
        [
            *_describe_run(results, ""),
            f"Text: {results['text']['tokens']:,} tokens, whose SHA-256 is `{results['text']['sha256']}`.",
        ],
        results.get("config"),
        "",
        f"What it knows comes from its teacher and its text, biases included. {RIGHTS}",
    )


def render_multitask_card(
    results: Mapping[str, Any],
    entries: Mapping[str, Mapping[str, Any]],
    encoder: str,
    seed: int,
    folder: Path,
    name: str | None = None,
) -> str:
    """The card of a student of several tasks: its entry of each, and the run's ``results.json``."""
    name = name or folder.name
    scored = [(task, results["data_source"][task], entry["metrics"]) for task, entry in entries.items()]
    base = PACKAGED_ENCODER if encoder == "packaged" else encoder
    first = next(iter(entries))
    scores = [
        f"| {task} | {results['tasks'][task]['metric']} | {entry['score']:.4f} |"
        for task, entry in entries.items()
    ]
    return assemble_card(
        describe_classifier(name, scored) | describe_base(base),
        name,
        f"One encoder with a head for each of {', '.join(entries)}, trained with nlp_distill ({results['title']}).",
        [
            "Its class is in the package nlp_distill, which must be installed; no code is in this folder.",
            "",
            "```python",
            "import nlp_distill.students  # registers the model",
            "from transformers import AutoModel, AutoTokenizer",
            "",
            f'tokenizer = AutoTokenizer.from_pretrained("{name}")',
            f'model = AutoModel.from_pretrained("{name}").for_task("{first}")  # {", ".join(entries)}',
            "```",
        ],
        [
            *_describe_run(results, f"(this is seed {seed})"),
            f"Encoder: `{drop_place(base)}`.",
            f"Data: {'; '.join(results['data_source'][task] for task in entries)}.",
        ],
        results.get("config"),
        "\n".join(["| task | metric | test |", "|---|---|---:|", *scores]),
        f"{LIMITATIONS} {RIGHTS}",
    )


# ---- the parts ------------------------------------------------------------------------------------------------------


def assemble_card(
    fields: Mapping[str, Any],
    name: str,
    summary: str,
    use: Sequence[str],
    made: Sequence[str],
    config: Any,
    table: str,
    limitations: str,
) -> str:
    """A card from its parts, the front matter as YAML.

    JSON is no YAML in places: 1e-05 is a text to YAML 1.1, which the hub's client reads, and emoji are no characters.
    """
    plain = json.loads(json.dumps(fields))  # without NumPy's kinds of numbers
    front = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=1000)
    lines = ["---", *front.splitlines(), "---", ""]
    lines += [f"# {name.rpartition('/')[2]}", "", summary, "", "## How to use it", "", *use, ""]
    lines += ["## How it was made", "", *(f"- {line}" for line in made), ""]
    if config:
        settings = json.dumps(config, indent=2, ensure_ascii=False)
        lines += [
            "<details><summary>All settings</summary>",
            "",
            "```json",
            settings,
            "```",
            "",
            "</details>",
            "",
        ]
    lines += [table, ""] if table else []
    return "\n".join([*lines, "## Limitations", "", limitations]) + "\n"


def describe_classifier(
    name: str,
    scored: Sequence[tuple[str, str, Mapping[str, float]]],
    is_spacy: bool = False,
    kind: str = "text-classification",
) -> dict[str, Any]:
    """Front matter of a classifier.

    Args:
        name: the model's.
        scored: task, where its rows come from, and the metrics, for each task.
        is_spacy: whether it is a spaCy pipeline.
        kind: the hub's name of what it does.
    """
    results = [
        {
            "task": {"type": kind},
            "dataset": _describe_dataset(task, source),
            "metrics": [
                {"type": metric, "value": value, "name": metric.replace("_", " ")}
                for metric, value in metrics.items()
            ],
        }
        for task, source, metrics in scored
    ]
    hub_data = sorted({HUB_DATASET for task, source, _ in scored if _is_glue(task, source)})
    return {
        "library_name": "spacy" if is_spacy else "transformers",
        "pipeline_tag": kind,
        **LICENCE,
        "tags": ["knowledge-distillation", "nlp_distill", *(["spacy"] if is_spacy else [])],
        **({"datasets": hub_data} if hub_data else {}),
        "metrics": list(dict.fromkeys(metric for _, _, metrics in scored for metric in metrics)),
        "model-index": [{"name": name.rpartition("/")[2], "results": results}],
    }


def describe_base(teacher: str | None) -> dict[str, Any]:
    """``base_model`` where the teacher has a hub name; a folder on somebody's disk is no address for others."""
    name = str(teacher or "")
    is_hub_name = bool(name) and not Path(name).exists() and not name.startswith((".", "/", "~"))
    return {"base_model": name} if is_hub_name and name.count("/") <= 1 else {}


def _describe_dataset(task: str, source: str) -> dict[str, str]:
    if not _is_glue(task, source):
        return {"type": task, "name": task, "split": "test"}
    entry = GLUE[task]
    return {
        "type": HUB_DATASET,
        "name": f"GLUE {task}",
        "config": entry.hub_config,
        "split": entry.hub_dev_split,  # what is reported is the official development set
    }


def _is_glue(task: str, source: str) -> bool:
    """Whether the rows are GLUE's: files of one's own may go by the name of one of its tasks."""
    return task in GLUE and source.startswith(("GLUE folder", f"hub data set {HUB_DATASET}"))


def _describe_run(results: Mapping[str, Any], which: str) -> list[str]:
    versions = ", ".join(f"{package} {version}" for package, version in results["versions"].items())
    return [
        f"Command: `{results.get('command', '')}`{' ' if which else ''}{which}.",
        f"Versions: {versions}.",
    ]


def _use_pipeline(name: str, folder: Path, is_pair: bool) -> list[str]:
    is_ours = str(_read_config(folder).get("model_type", "")).startswith(OURS)
    example = '{"text": "a text", "text_pair": "another"}' if is_pair else '"a text"'
    needed = [
        "Its class is in the package nlp_distill, which must be installed; no code is in this folder, so "
        "`trust_remote_code` does not replace it.",
        "",
    ]
    return [
        *(needed if is_ours else []),
        "```python",
        *(["import nlp_distill.students  # registers the model"] if is_ours else []),
        "from transformers import pipeline",
        "",
        f'pipeline("{_read_kind(folder)}", "{name}")({example})',
        "```",
    ]


def _read_kind(folder: Path) -> str:
    """What a saved model does, as the hub and ``pipeline`` call it."""
    is_tagger = labels_tokens(_read_config(folder).get("architectures"))
    return "token-classification" if is_tagger else "text-classification"


def _use_spacy(name: str) -> list[str]:
    is_on_hub = "/" in name
    folder = f'snapshot_download("{name}")' if is_on_hub else f'"{name}"'
    return [
        "```python",
        "import spacy",
        *(["from huggingface_hub import snapshot_download"] if is_on_hub else []),
        "",
        f'spacy.load({folder})("a text").cats',
        "```",
    ]


def _is_spacy(folder: Path) -> bool:
    return (folder / "config.cfg").is_file()


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
