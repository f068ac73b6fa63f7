"""``nlp-distill hand-over``: a labelled transfer set for spaCy, fastText or scikit-learn."""

import argparse
from pathlib import Path

from data_augment.errors import InputError
from nlp_distill.limits import check_whole
from nlp_distill.stages import make_folder

NEXT = {
    "spacy": 'spacy train config.cfg --paths.train {output}, with `factory = "{factory}"` for the text classifier',
    "fasttext": "fasttext supervised -input {output} -output model",
    "sklearn": 'nlp_distill.teacher_rows.load_teacher_rows("{output}")',
}


def run(options: argparse.Namespace) -> None:
    """``nlp-distill hand-over``."""
    from nlp_distill.handover import HandOver, hand_over

    if options.text_pair_column and not options.text_column:
        raise InputError("--text-pair-column is given without --text-column; give both, or neither")
    seed = 0 if options.seed is None else options.seed
    language = "en" if options.language is None else options.language
    check_whole("seed", seed, at_least=0)
    columns = tuple(column for column in (options.text_column, options.text_pair_column) if column)
    settings = HandOver(
        form=options.format,
        text_columns=columns,
        labels=tuple(options.labels or ()),
        targets=options.targets,
        seed=seed,
        language=language,
        skip_bad_rows=options.skip_bad_rows,
    )
    if options.seed is not None and settings.chosen_targets != "drawn":
        raise InputError(
            "--seed is of drawn labels, and none are drawn; leave it out, or add --targets drawn"
        )
    if options.language is not None and options.format != "spacy":
        raise InputError(f"--language is of spaCy's documents; leave it out with --format {options.format}")
    if Path(options.output).is_dir():
        raise InputError(f"output {options.output} is a folder; give the name of a file")
    make_folder(Path(options.output).parent)
    written = hand_over(options.labelled, options.output, settings, options.overwrite)
    skipped = f" ({written.skipped_rows:,} left out)" if written.skipped_rows else ""
    how = "one value each"
    if written.labels:
        kinds = {
            "probabilities": "the teacher's probabilities",
            "likeliest": "the label that the teacher finds likeliest",
            "drawn": f"a label drawn from the teacher's probabilities with seed {settings.seed}",
        }
        how = f"{kinds[settings.chosen_targets]}, of {', '.join(written.labels)}"
    print(f"wrote {options.output}: {written.rows:,} rows{skipped}, {how}")
    factory = "soft_textcat" if settings.chosen_targets == "probabilities" else "textcat"
    print(f"next: {NEXT[options.format].format(output=options.output, factory=factory)}")
