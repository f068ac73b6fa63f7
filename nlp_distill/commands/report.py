"""``nlp-distill report``: a page about a run, or several."""

import argparse
from pathlib import Path

from data_augment.errors import InputError
from nlp_distill.commands.inputs import load_data
from nlp_distill.stages import make_folder, write_whole


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from nlp_distill.report import collect_run, render_html, render_markdown

    has_data = any(
        getattr(options, name) for name in ("task", "data_dir", "train_file", "test_file", "text_column")
    )
    runs = [collect_run(folder) for folder in options.runs]
    taggers = [folder for folder, run in zip(options.runs, runs, strict=True) if run.labels_tokens]
    if has_data and taggers:
        raise InputError(
            f"{taggers[0]} is a tagger's run, whose page needs no rows; leave out the data options (--task, "
            "--train-file, ...)"
        )
    data = load_data(options) if has_data else None
    if data is not None:
        runs = [collect_run(folder, data) for folder in options.runs]
    output = Path(options.output) if options.output else Path(options.runs[0])
    check_is_own(output / "report.html", "<title>Distillation report: ")
    make_folder(output)
    write_whole(output / "report.html", render_html(runs))
    write_whole(output / "report.md", render_markdown(runs))
    print(f"wrote {output / 'report.html'} and {output / 'report.md'}")
    if data is None and len(taggers) < len(runs):
        print("add the data options of the run (--task, --data-dir, ...) for results by class and examples")


def check_is_own(path: Path, mark: str) -> None:
    """Refuse to replace a page that is not a report.

    Raises:
        InputError: where a file lies at ``path`` without the words that reports begin with.
    """
    if path.is_file() and mark not in path.read_text(encoding="utf-8", errors="replace")[:1000]:
        raise InputError(f"{path} is there and is no report of this command; give another --output")
