"""Labelled transfer sets for other libraries: what they read back is what the teacher said, or it was refused."""

import json
import re
import sys
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_augment.errors import InputError
from nlp_distill.handover import HandOver, average_teachers, hand_over
from nlp_distill.labelled_files import METADATA_KEY
from nlp_distill.teacher_rows import TeacherRows, load_teacher_rows

TEXTS = [
    "a good film",
    "  two  spaces,\ta tab\r\nand a line ",
    "no-break\u00a0space and \u2028 a separator",
    "a NUL \0 inside and one at the end\0",
    "🙂 emoji, 日本語",
    "bad",
]
LABELS = ["negative", "not good", "100% good"]
LOGITS = np.random.default_rng(0).normal(size=(len(TEXTS), 3)).astype(np.float32) * 3


def softmax(logits):
    exponents = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


@pytest.fixture
def write(tmp_path):
    """``write(texts=..., logits=..., labels=..., ...)``: a labelled file as labelling leaves it."""

    def run(texts=TEXTS, logits=LOGITS, labels=LABELS, pairs=None, fingerprint=True, name="labelled.parquet"):
        columns = {"id": [f"train-{number}" for number in range(len(texts))], "text": list(texts)}
        if pairs is not None:
            columns["second"] = list(pairs)
        columns["label"] = [None] * len(texts)
        columns["teacher_logits"] = np.asarray(logits).tolist()
        table = pa.table(columns)
        found = {"labels": list(labels), "text_columns": ["text", *(["second"] if pairs is not None else [])]}
        if fingerprint:
            table = table.replace_schema_metadata({METADATA_KEY: json.dumps(found).encode()})
        pq.write_table(table, tmp_path / name)
        return tmp_path / name

    return run


# ---- scikit-learn ---------------------------------------------------------------------------------------------------


def test_scikit_learn_gets_every_text_and_probability_back(write, tmp_path):
    output = tmp_path / "rows.npz"
    written = hand_over(write(), output, HandOver("sklearn"))
    assert (written.rows, written.skipped_rows, written.labels) == (len(TEXTS), 0, tuple(LABELS))
    rows = load_teacher_rows(output)
    assert rows.texts == TEXTS and rows.text_pairs is None
    assert rows.ids == [f"train-{number}" for number in range(len(TEXTS))]
    assert rows.class_names == tuple(LABELS)
    np.testing.assert_allclose(rows.probabilities, softmax(LOGITS), atol=1e-7)
    assert rows.targets.tolist() == LOGITS.argmax(axis=1).tolist()
    np.testing.assert_array_equal(rows.sample_weights, rows.probabilities.max(axis=1))


def test_a_file_without_rows_is_refused(write, tmp_path):
    empty = pq.read_table(write()).slice(0, 0)
    pq.write_table(empty, tmp_path / "empty.parquet")
    with pytest.raises(InputError, match="no row"):
        hand_over(tmp_path / "empty.parquet", tmp_path / "rows.npz", HandOver("sklearn"))


def test_the_file_holds_no_pickle(write, tmp_path):
    hand_over(write(), tmp_path / "rows.npz", HandOver("sklearn"))
    with np.load(tmp_path / "rows.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype.kind in "fiuU" for name in arrays.files)


def test_pairs_and_regressions_go_to_scikit_learn_alone(write, tmp_path):
    pairs = ["", *TEXTS[1:]]
    labelled = write(logits=LOGITS[:, :1], labels=[], pairs=pairs)
    hand_over(labelled, tmp_path / "rows.npz", HandOver("sklearn"))
    rows = load_teacher_rows(tmp_path / "rows.npz")
    assert rows.text_pairs == pairs and rows.class_names == () and rows.probabilities is None
    np.testing.assert_array_equal(rows.targets, LOGITS[:, 0])
    assert rows.sample_weights.tolist() == [1.0] * len(TEXTS)
    with pytest.raises(ValueError, match="a regression"):
        rows.spread()
    for form, ending in (("spacy", ".spacy"), ("fasttext", ".txt")):
        with pytest.raises(InputError, match="holds pairs"):
            hand_over(labelled, tmp_path / f"rows{ending}", HandOver(form))
    with pytest.raises(InputError, match="values of a regression"):
        hand_over(write(logits=LOGITS[:, :1], labels=[]), tmp_path / "rows.txt", HandOver("fasttext"))


def test_spread_rows_have_the_loss_of_soft_labels():
    source = np.random.default_rng(1)
    probabilities = softmax(source.normal(size=(5, 3)))
    probabilities[0] = [0.0, 1.0, 0.0]
    rows = TeacherRows(
        ids=list("abcde"),
        texts=list("vwxyz"),
        text_pairs=None,
        class_names=("x", "y", "z"),
        probabilities=probabilities,
        targets=probabilities.argmax(axis=1),
        sample_weights=probabilities.max(axis=1),
    )
    texts, classes, weights = rows.spread()
    answers = softmax(source.normal(size=(5, 3)))  # of some student
    spread = sum(
        -weight * np.log(answers[rows.texts.index(text), chosen])
        for text, chosen, weight in zip(texts, classes, weights, strict=True)
    )
    naive = 0.0
    for row in range(5):
        for column in range(3):
            naive -= probabilities[row, column] * np.log(answers[row, column])
    assert spread == pytest.approx(naive) and len(texts) == 13  # no row for a probability of 0
    assert len(rows.spread(at_least=0.9)[0]) < 13


def test_scikit_learn_learns_the_teachers_probabilities(write, tmp_path):
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = ["good", "bad", "dull"] * 4
    logits = np.array([[-1.0, 1.0], [1.0, -1.0], [0.5, 0.0]] * 4)
    hand_over(write(texts, logits, ["no", "yes"]), tmp_path / "rows.npz", HandOver("sklearn"))
    rows = load_teacher_rows(tmp_path / "rows.npz")
    spread, classes, weights = rows.spread()
    model = make_pipeline(CountVectorizer(), LogisticRegression(C=1e6, tol=1e-8))
    model.fit(spread, classes, logisticregression__sample_weight=weights)
    np.testing.assert_allclose(model.predict_proba(texts[:3]), softmax(logits[:3]), atol=1e-3)


# ---- fastText -------------------------------------------------------------------------------------------------------


def test_every_line_holds_one_safe_label_and_its_text(write, tmp_path):
    output = tmp_path / "rows.txt"
    hand_over(write(), output, HandOver("fasttext"))
    lines = output.read_bytes().decode().split("\n")
    assert lines.pop() == "" and len(lines) == len(TEXTS)
    for line, text, logits in zip(lines, TEXTS, LOGITS, strict=True):
        label, _, rest = line.partition(" ")
        assert label.startswith("__label__") and not re.search(r"[\r\t\0]", line)
        assert unquote(label.removeprefix("__label__")) == LABELS[logits.argmax()]
        # What fastText splits words at is white space to Python too, but not the other way round.
        assert rest.split(" ") == [word for word in re.split(r"[ \t\n\v\f\r\0]+", text) if word]


def test_labels_that_differ_in_a_space_alone_stay_apart(write, tmp_path):
    labels = ["a b", "a_b", "a%20b"]
    logits = np.eye(3)
    hand_over(write(TEXTS[:3], logits, labels), tmp_path / "rows.txt", HandOver("fasttext"))
    written = [line.split(" ")[0] for line in (tmp_path / "rows.txt").read_text().splitlines()[:3]]
    assert len(set(written)) == 3
    assert [unquote(label.removeprefix("__label__")) for label in written] == labels


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a __label__x b", "takes for a label"),
        ("a </s> b", "ends a line"),
        (" \r\n\t", "holds no word"),
        ("", "holds no word"),
    ],
)
def test_what_fasttext_would_misread_is_refused_or_dropped(text, reason, write, tmp_path):
    labelled, output = write([text, *TEXTS[1:]]), tmp_path / "rows.txt"
    with pytest.raises(InputError, match=f"train-0 .*{reason}"):
        hand_over(labelled, output, HandOver("fasttext"))
    assert list(tmp_path.iterdir()) == [labelled]  # nothing half-written
    written = hand_over(labelled, output, HandOver("fasttext", skip_bad_rows=True))
    assert (written.rows, written.skipped_rows) == (len(TEXTS) - 1, 1)


def test_drawn_labels_follow_the_probabilities_and_the_seed(write, tmp_path):
    count = 4000
    logits = np.tile(np.log([0.2, 0.5, 0.3]), (count, 1))
    labelled = write(["a word"] * count, logits)

    def draw(seed, name):
        hand_over(labelled, tmp_path / name, HandOver("fasttext", targets="drawn", seed=seed))
        return (tmp_path / name).read_text()

    first = draw(0, "first.txt")
    assert draw(0, "again.txt") == first != draw(1, "other.txt")
    labels = [unquote(line.split(" ")[0].removeprefix("__label__")) for line in first.splitlines()]
    shares = [labels.count(label) / count for label in LABELS]
    np.testing.assert_allclose(shares, [0.2, 0.5, 0.3], atol=4 * np.sqrt(0.25 / count))


# ---- teachers, labels, columns --------------------------------------------------------------------------------------


def test_several_teachers_are_averaged_as_probabilities():
    logits = np.array([[[0.0, 2.0], [3.0, 0.0]]])
    np.testing.assert_allclose(average_teachers(logits), softmax(logits).mean(axis=1))
    np.testing.assert_allclose(average_teachers(np.array([[[1.0], [4.0]]])), [[2.5]])


def test_given_labels_set_the_order_and_name_anonymous_ones(write, tmp_path):
    output = tmp_path / "rows.npz"
    hand_over(write(), output, HandOver("sklearn", labels=tuple(reversed(LABELS))))
    rows = load_teacher_rows(output)
    np.testing.assert_allclose(rows.probabilities, softmax(LOGITS)[:, ::-1], atol=1e-7)
    assert rows.class_names == tuple(reversed(LABELS))
    anonymous = write(labels=["LABEL_0", "LABEL_1", "LABEL_2"])
    hand_over(anonymous, output, HandOver("sklearn", labels=("a", "b", "c")), overwrite=True)
    assert load_teacher_rows(output).class_names == ("a", "b", "c")
    with pytest.raises(InputError, match="must be the same names"):
        hand_over(write(), output, HandOver("sklearn", labels=("a", "b", "c")), overwrite=True)


def test_a_file_that_does_not_say_needs_columns_and_labels(write, tmp_path):
    labelled, output = write(fingerprint=False), tmp_path / "rows.npz"
    with pytest.raises(InputError, match="--text-column and --labels"):
        hand_over(labelled, output, HandOver("sklearn"))
    hand_over(labelled, output, HandOver("sklearn", ("text",), tuple(LABELS)))
    assert load_teacher_rows(output).texts == TEXTS
    with pytest.raises(InputError, match="has no column 'body'"):
        hand_over(labelled, output, HandOver("sklearn", ("body",), tuple(LABELS)), overwrite=True)
    with pytest.raises(InputError, match="must go with its labels"):
        hand_over(labelled, output, HandOver("sklearn", ("text",), ("a", "b")), overwrite=True)
    assert load_teacher_rows(output).texts == TEXTS  # as it was


def test_wrong_files_outputs_and_targets_are_refused(write, tmp_path):
    labelled = write()
    with pytest.raises(InputError, match=r"must end in \.npz"):
        hand_over(labelled, tmp_path / "rows.txt", HandOver("sklearn"))
    with pytest.raises(InputError, match="no column teacher_logits"):
        pq.write_table(pa.table({"id": ["a"]}), tmp_path / "plain.parquet")
        hand_over(tmp_path / "plain.parquet", tmp_path / "rows.npz", HandOver("sklearn"))
    (tmp_path / "text.csv").write_text("a,b\n")
    with pytest.raises(InputError, match="is no Parquet file"):
        hand_over(tmp_path / "text.csv", tmp_path / "rows.npz", HandOver("sklearn"))
    with pytest.raises(InputError, match="fasttext can have likeliest, drawn"):
        HandOver("fasttext", targets="probabilities")
    with pytest.raises(InputError, match="sklearn can have probabilities"):
        HandOver("sklearn", targets="drawn")
    with pytest.raises(InputError, match="leave out --text-column"):
        hand_over(labelled, tmp_path / "rows.npz", HandOver("sklearn", ("label",)))
    logits = LOGITS.copy()
    logits[2, 1] = np.nan
    with pytest.raises(InputError, match="finite"):
        hand_over(write(logits=logits), tmp_path / "rows.npz", HandOver("sklearn"))
    hand_over(write(), tmp_path / "rows.npz", HandOver("sklearn"))
    with pytest.raises(InputError, match="exists; choose another output"):
        hand_over(labelled, tmp_path / "rows.npz", HandOver("sklearn"))


def test_the_command_takes_what_label_wrote(run_cli, teacher_folder, own_files, tmp_path, capsys):
    rows = tmp_path / "rows.csv"
    lines = (own_files / "unlabelled.csv").read_text().splitlines()
    rows.write_text(
        "\n".join(["id,text", *(f"{n},{line.split(',')[0]}" for n, line in enumerate(lines[1:]))])
    )
    labelled = tmp_path / "labelled.parquet"
    command = ["--input", rows, "--output", labelled, "--text-column", "text", "--max-length", 32]
    assert run_cli("label", "--teacher", teacher_folder, *command) == 0
    capsys.readouterr()
    output = tmp_path / "out" / "rows.txt"
    assert run_cli("hand-over", labelled, "--format", "fasttext", "--output", output) == 0
    said = capsys.readouterr().out
    assert f"{len(lines) - 1} rows, the label that the teacher finds likeliest, of negative, positive" in said
    assert set(re.findall(r"__label__\S+", output.read_text())) <= {"__label__negative", "__label__positive"}
    assert run_cli("hand-over", labelled, "--format", "fasttext", "--output", output) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["fasttext", "--seed", 3], "--seed is of drawn labels"),
        (["fasttext", "--targets", "drawn", "--language", "de"], "leave it out with --format fasttext"),
        (["sklearn", "--language", "en"], "leave it out with --format sklearn"),
    ],
)
def test_options_of_other_formats_are_refused(write, run_cli, tmp_path, capsys, options, message):
    output = tmp_path / f"rows.{'npz' if options[0] == 'sklearn' else 'txt'}"
    assert run_cli("hand-over", write(), "--output", output, "--format", *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and not output.exists()
    kept = [option for option in options if option not in ("--language", "de", "en", "--seed", 3)]
    assert run_cli("hand-over", write(), "--output", output, "--format", *kept) == 0


def test_a_missing_spacy_names_its_installation_before_any_work(
    write, run_cli, data_options, teacher_folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "spacy", None)
    command = ["distill", "spacy", *data_options, "--teacher", teacher_folder, "--output", tmp_path / "out"]
    assert run_cli(*command) == 2
    assert (
        capsys.readouterr().err == 'error: spaCy is not installed; run `pip install "nlp_distill[spacy]"`\n'
    )
    assert not (tmp_path / "out").exists()
    command = ["hand-over", write(), "--format", "spacy", "--output", tmp_path / "rows.spacy"]
    assert run_cli(*command) == 2 and "spaCy is not installed" in capsys.readouterr().err
