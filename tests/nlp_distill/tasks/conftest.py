"""Small GLUE folders, written in the layouts of the official archives."""

import pytest

from nlp_distill.tasks import GLUE

# Header, and one row from (number, label spelling), as in the official archive; None: no header line.
LAYOUTS = {
    "cola": (None, "gj04\t{y}\t*\tsentence {n}"),
    "sst2": ("sentence\tlabel", "sentence {n} \t{y}"),
    "sst2_10k": ("sentence\tlabel", "sentence {n} \t{y}"),
    "mrpc": ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", "{y}\t1\t2\tfirst {n}\tsecond {n}"),
    "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "0\t1\t2\tfirst {n}\tsecond {n}\t{y}"),
    "stsb": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        "0\tg\tf\t1\t2\ts\ts\tfirst {n}\tsecond {n}\t{y}",
    ),
    "mnli": ("index\tsentence1\tsentence2\tlabel1\tgold_label", "0\tfirst {n}\tsecond {n}\tneutral\t{y}"),
    "qnli": ("index\tquestion\tsentence\tlabel", "0\tfirst {n}\tsecond {n}\t{y}"),
    "rte": ("index\tsentence1\tsentence2\tlabel", "0\tfirst {n}\tsecond {n}\t{y}"),
    "wnli": ("index\tsentence1\tsentence2\tlabel", "0\tfirst {n}\tsecond {n}\t{y}"),
    "ax": (
        "Lexical Semantics\tPredicate-Argument Structure\tLogic\tKnowledge\tDomain"
        "\tPremise\tHypothesis\tLabel",
        "\t\t\t\tNews\tfirst {n}\tsecond {n}\t{y}",
    ),
}
LAYOUTS["mnli_mm"] = LAYOUTS["mnli"]


def _write_rows(path, layout, rows):
    header, template = LAYOUTS[layout]
    lines = ([] if header is None else [header]) + [template.format(n=n, y=y) for n, y in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def spellings(name):
    return GLUE[name].spelling or ("0.000", "2.500", "5.000")


def _write_task(root, name, train=40, test=6):
    spelled = spellings(name)
    entry, layout = GLUE[name], "mnli" if name == "ax" else name
    _write_rows(
        root / entry.folder / "train.tsv", layout, [(n, spelled[n % len(spelled)]) for n in range(train)]
    )
    _write_rows(
        root / entry.folder / entry.dev_file,
        name,
        [(1000 + n, spelled[n % len(spelled)]) for n in range(test)],
    )


@pytest.fixture
def write_rows():
    """``write_rows(path, layout, [(number, label spelling), ...])`` writes one file of a GLUE folder."""
    return _write_rows


@pytest.fixture
def write_task():
    """``write_task(root, name, train=40, test=6)`` writes train and reported rows of a task."""
    return _write_task
