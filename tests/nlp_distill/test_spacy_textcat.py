"""spaCy as a student: its classifier learns probabilities, from a handed-over file and in a whole run."""

import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from data_augment.errors import InputError
from nlp_distill import spacy_docs
from nlp_distill.evaluation import load_logits
from nlp_distill.handover import HandOver, hand_over
from nlp_distill.labelled_files import load_labelled
from nlp_distill.stages import FINISHED

TEXTS = [
    "a good film",
    "  two  spaces,\ta tab\r\nand a line ",
    "don't (stop) http://a.b/c",
    "bad",
    "🙂 日本語",
]


spacy = pytest.importorskip("spacy", reason="the extra 'spacy' is not installed")

from nlp_distill.students.spacy_progress import load_progress  # noqa: E402
from nlp_distill.students.spacy_textcat import (  # noqa: E402  it is of no use without spaCy
    ARCHITECTURES,
    TextcatTraining,
    build_textcat,
    describe_textcat,
    predict_log_probabilities,
    save_textcat,
    take_step,
    train_textcat,
)


@pytest.fixture
def labelled(tmp_path):
    """A labelled file of ``TEXTS`` with two labels, and its probabilities."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from nlp_distill.labelled_files import METADATA_KEY

    logits = np.random.default_rng(0).normal(size=(len(TEXTS), 2))
    table = pa.table(
        {
            "id": [f"r{number}" for number in range(len(TEXTS))],
            "text": TEXTS,
            "teacher_logits": logits.tolist(),
        }
    )
    found = {"labels": ["no", "yes it is"], "text_columns": ["text"]}
    pq.write_table(
        table.replace_schema_metadata({METADATA_KEY: json.dumps(found).encode()}), tmp_path / "l.parquet"
    )
    exponents = np.exp(logits)
    return tmp_path / "l.parquet", exponents / exponents.sum(axis=1, keepdims=True)


# ---- the handed-over file -------------------------------------------------------------------------------------------


def test_documents_give_back_text_probabilities_and_id(labelled, tmp_path):
    path, probabilities = labelled
    hand_over(path, tmp_path / "rows.spacy", HandOver("spacy"))
    nlp = spacy.blank("en")
    documents = list(spacy.tokens.DocBin().from_disk(tmp_path / "rows.spacy").get_docs(nlp.vocab))
    assert [document.text for document in documents] == TEXTS
    assert [document.user_data["id"] for document in documents] == [f"r{n}" for n in range(len(TEXTS))]
    for document, expected in zip(documents, probabilities, strict=True):
        assert list(document.cats) == ["no", "yes it is"]
        np.testing.assert_allclose(list(document.cats.values()), expected)
        assert [token.text for token in document] == [token.text for token in nlp(document.text)]


def test_the_same_rows_make_the_same_bytes(labelled, tmp_path):
    for name in ("one.spacy", "two.spacy"):
        hand_over(labelled[0], tmp_path / name, HandOver("spacy"))
    assert (tmp_path / "one.spacy").read_bytes() == (tmp_path / "two.spacy").read_bytes()


@pytest.mark.parametrize(("targets", "factory"), [("probabilities", "soft_textcat"), ("drawn", "textcat")])
def test_spacys_own_training_reads_the_file(targets, factory, labelled, tmp_path):
    import nlp_distill.spacy_soft_textcat  # noqa: F401  an installed package is found by its entry point

    hand_over(labelled[0], tmp_path / "rows.spacy", HandOver("spacy", targets=targets))
    nlp = spacy.blank("en")
    nlp.add_pipe(factory)
    corpus = spacy.training.Corpus(tmp_path / "rows.spacy")
    optimizer = nlp.initialize(lambda: corpus(nlp))
    for _ in range(40):
        nlp.update(list(corpus(nlp)), sgd=optimizer)
    wanted = [document.reference.cats["yes it is"] for document in corpus(nlp)]
    found = [nlp(text).cats["yes it is"] for text in TEXTS]
    np.testing.assert_allclose(found, wanted, atol=0.05)


def test_spacys_own_classifier_refuses_probabilities_which_is_why_ours_exists(labelled, tmp_path):
    hand_over(labelled[0], tmp_path / "rows.spacy", HandOver("spacy"))
    nlp = spacy.blank("en")
    nlp.add_pipe("textcat")
    with pytest.raises(ValueError, match="E851"):
        nlp.initialize(lambda: spacy.training.Corpus(tmp_path / "rows.spacy")(nlp))


def test_what_was_trained_softly_loads_as_a_plain_classifier(labelled, tmp_path):
    import nlp_distill.spacy_soft_textcat

    nlp = spacy.blank("en")
    nlp.add_pipe("soft_textcat", name="textcat")
    hand_over(labelled[0], tmp_path / "rows.spacy", HandOver("spacy"))
    nlp.initialize(lambda: spacy.training.Corpus(tmp_path / "rows.spacy")(nlp))
    expected = nlp("a good film").cats
    nlp.to_disk(tmp_path / "model")
    config = tmp_path / "model" / "config.cfg"
    config.write_text(config.read_text().replace('factory = "soft_textcat"', 'factory = "textcat"'))
    code = "import spacy, sys; print(spacy.load(sys.argv[1])('a good film').cats)"
    command = [sys.executable, "-c", code, str(tmp_path / "model")]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == str(expected)
    with pytest.raises(ValueError, match="sum to 1"):
        document = nlp.make_doc("a")
        document.cats = {"no": 0.9, "yes it is": 0.9}
        nlp.update([spacy.training.Example(document, document)])
    assert nlp_distill.spacy_soft_textcat.make_soft_textcat.__doc__


def test_texts_that_spacy_cannot_hold_are_refused(labelled):
    nlp = spacy_docs.make_blank()
    assert "drops" in spacy_docs.find_fault(nlp, "")
    assert "1,000,000" in spacy_docs.find_fault(nlp, "a" * 1_000_001)
    assert spacy_docs.find_fault(nlp, "a b") is None
    with pytest.raises(InputError, match="no blank pipeline for the language 'klingon'"):
        spacy_docs.make_blank("klingon")


# ---- the student ----------------------------------------------------------------------------------------------------


def test_a_step_of_the_ensemble_on_labels_is_spacys_own_step():
    labels, targets = ["no", "yes"], np.eye(2)[[0, 1, 1, 0, 1]]
    ours, theirs = (build_textcat(labels, "ensemble", "en", seed=0) for _ in range(2))
    documents = [ours.make_doc(text) for text in TEXTS]
    take_step(ours.get_pipe("textcat").model, documents, targets, ours.create_optimizer())
    examples = []
    for text, row in zip(TEXTS, targets, strict=True):
        examples.append(
            spacy.training.Example.from_dict(
                theirs.make_doc(text), {"cats": dict(zip(labels, row, strict=True))}
            )
        )
    theirs.update(examples, sgd=theirs.create_optimizer(), drop=0.0)
    assert (
        ours.get_pipe("textcat").model.to_bytes()
        == theirs.get_pipe("textcat").model.to_bytes()
        != (build_textcat(labels, "ensemble", "en", seed=0).get_pipe("textcat").model.to_bytes())
    )


def test_a_step_of_the_bag_of_words_goes_down_the_cross_entropy():
    """Its gradient is that of finite differences, where the probabilities are sure and wrong as well."""
    labels, targets = ["no", "yes"], np.array([[0.9, 0.1], [0.3, 0.7], [0.5, 0.5], [0.0, 1.0], [0.2, 0.8]])
    nlp = build_textcat(labels, "bow", "en", seed=0)
    model = nlp.get_pipe("textcat").model
    documents = [nlp.make_doc(text) for text in TEXTS]
    (linear,) = (layer for layer in model.walk() if layer.has_param("W"))
    linear.set_param("b", np.array([-2.0, 3.0], dtype=np.float32))
    seen = {}

    def keep(key, weights, gradient):
        seen[key[1]] = gradient.copy()
        return weights, gradient

    take_step(model, documents, targets, keep)

    def measure(name, place, change):
        weights = linear.get_param(name).copy()
        moved = weights.copy()
        moved[place] += change
        linear.set_param(name, moved)
        found = -(targets * np.log(model.predict(documents).astype(np.float64))).sum()
        linear.set_param(name, weights)
        return found

    for name, gradient in seen.items():
        places = np.flatnonzero(gradient)
        assert len(places) >= 2
        for place in places[:6]:
            expected = (measure(name, place, 0.05) - measure(name, place, -0.05)) / 0.1
            assert gradient[place] == pytest.approx(expected, rel=0.02, abs=1e-3)
    # By hand: the bias gets the sum of p - t.
    np.testing.assert_allclose(seen["b"], (model.predict(documents) - targets).sum(axis=0), atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_repeats_by_seed_and_ends_with_the_best_epoch(architecture, tmp_path):
    labels, targets = ["no", "yes"], np.tile([0.3, 0.7], (len(TEXTS), 1))
    scores = [0.1, 0.8, 0.8, 0.2]

    def train(seed, name):
        nlp, seen, left = build_textcat(labels, architecture, "en", seed), [], list(scores)

        def score(current):
            seen.append(predict_log_probabilities(current, TEXTS, labels))
            return left.pop(0)

        training = TextcatTraining(epochs=4, batch_size=2)
        trained = train_textcat(nlp, TEXTS, targets, training, seed, score, "training")
        save_textcat(nlp, tmp_path / name)
        return trained, seen, (tmp_path / name / "textcat" / "model").read_bytes()

    trained, seen, weights = train(0, "one")
    assert trained["validation_score"] == 0.8 and trained["steps"] == 12
    assert [entry["eval_score"] for entry in trained["history"]] == scores
    loaded = spacy.load(tmp_path / "one")
    kept = predict_log_probabilities(loaded, TEXTS, labels)
    np.testing.assert_array_equal(kept, seen[1])  # the first of the best epochs
    assert not np.array_equal(seen[1], seen[2])
    assert train(0, "two")[2] == weights != train(1, "three")[2]
    sizes = describe_textcat(loaded, tmp_path / "one")
    assert sizes["parameters"] == sum(
        layer.get_param(name).size
        for layer in loaded.get_pipe("textcat").model.walk()
        for name in layer.param_names
    )
    is_ensemble = architecture == "ensemble"
    assert (sizes["parameters_without_embeddings"] < sizes["parameters"]) == is_ensemble
    swapped = predict_log_probabilities(loaded, [*TEXTS, ""], ["yes", "no"])
    np.testing.assert_allclose(swapped[: len(TEXTS)], kept[:, ::-1], atol=1e-6)


@pytest.mark.parametrize(("ngram_size", "learns"), [(1, False), (2, True)])
def test_pairs_of_words_tell_what_their_order_means(ngram_size, learns, tmp_path):
    """The same three words in two orders are one bag of words, and two bags of pairs."""
    texts, targets = ["good not bad", "bad not good"], np.array([[0.1, 0.9], [0.9, 0.1]])
    nlp = build_textcat(["no", "yes"], "bow", "en", 0, ngram_size)
    training = TextcatTraining(epochs=60, batch_size=2, learning_rate=0.1, dropout=0.0)
    epochs = iter(range(60))  # the last is the best
    train_textcat(nlp, texts, targets, training, 0, lambda nlp: next(epochs), "training")
    trained = np.exp(predict_log_probabilities(nlp, texts, ["no", "yes"]))
    assert bool(np.abs(trained - targets).max() < 0.1) is learns
    assert learns or np.allclose(trained[0], trained[1], atol=1e-6)
    save_textcat(nlp, tmp_path / "saved")
    loaded = predict_log_probabilities(spacy.load(tmp_path / "saved"), texts, ["no", "yes"])
    np.testing.assert_array_equal(np.exp(loaded), trained)


class Stopped(Exception):
    """Raised where a kill would come."""


@pytest.mark.parametrize("stopped_in", [2, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_interrupted_training_ends_with_the_bits_of_one_that_was_not(architecture, stopped_in, tmp_path):
    labels, targets = ["no", "yes"], np.random.default_rng(0).dirichlet([1, 1], len(TEXTS))
    scores = {1: 0.5, 2: 0.7, 3: 0.6, 4: 0.2}

    def train(progress_file, stop=None):
        nlp = build_textcat(labels, architecture, "en", seed=3)
        epochs = iter(range(1, 5) if stop != "resumed" else range(stopped_in, 5))

        def score(current):
            predict_log_probabilities(current, TEXTS, labels)
            epoch = next(epochs)
            if epoch == stop:
                raise Stopped
            return scores[epoch]

        training = TextcatTraining(epochs=4, batch_size=2, dropout=0.5)
        trained = train_textcat(nlp, TEXTS, targets, training, 3, score, "training", progress_file)
        return trained, nlp.get_pipe("textcat").model.to_bytes()

    expected, weights = train(None)
    file = tmp_path / "progress.npz"
    with pytest.raises(Stopped):
        train(file, stopped_in)
    np.random.seed(99)  # another process begins elsewhere
    trained, resumed = train(file, "resumed")
    assert resumed == weights
    assert {**trained, "seconds": 0} == {**expected, "seconds": 0}
    assert trained["seconds"] >= 0 and os.listdir(tmp_path) == ["progress.npz"]


def test_the_seconds_of_a_training_count_the_epochs_before_an_interruption(tmp_path, monkeypatch):
    file, passed, real = tmp_path / "progress.npz", [0.0], time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: real() + passed[0])

    def train(score):
        nlp, targets = build_textcat(["no", "yes"], "bow", "en", 0), np.tile([0.3, 0.7], (len(TEXTS), 1))
        return train_textcat(nlp, TEXTS, targets, TextcatTraining(epochs=3), 0, score, "training", file)

    def take_long_and_stop(nlp):
        if passed[0] == 2000:
            raise Stopped
        passed[0] += 1000
        return 0.5

    with pytest.raises(Stopped):
        train(take_long_and_stop)
    assert 2000 <= train(lambda nlp: 0.5)["seconds"] < 2900


def hide_last_array(archive: bytes) -> bytes:
    """A byte changed so that a reader of the archive takes its last array for the comment of the one before."""
    entries = [match.start() for match in re.finditer(b"PK\x01\x02", archive)]
    place, size = entries[-2] + 32, archive.index(b"PK\x05\x06") - entries[-1]
    assert size < 256 and archive[place] == 0
    return archive[:place] + bytes([size]) + archive[place + 1 :]


def test_a_damaged_progress_file_is_passed_over(tmp_path):
    file, labels = tmp_path / "progress.npz", ["no", "yes"]
    targets = np.tile([0.3, 0.7], (len(TEXTS), 1))

    def train(epochs):
        nlp = build_textcat(labels, "bow", "en", seed=0)
        training = TextcatTraining(epochs=epochs, batch_size=2)
        train_textcat(nlp, TEXTS, targets, training, 0, lambda nlp: 0.5, "training", file)
        return nlp.get_pipe("textcat").model.to_bytes()

    expected = train(1)
    whole = file.read_bytes()
    middle = whole.index(b"weights.npy") + 500
    for damaged in (
        whole[:-100],
        whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        hide_last_array(whole),
        b"",
        b"x",
    ):
        file.write_bytes(damaged)
        assert load_progress(file, None, None) is None
        assert train(1) == expected


def test_a_diverging_training_stops_with_a_number(monkeypatch):
    nlp = build_textcat(["no", "yes"], "bow", "en", 0)
    targets = np.full((len(TEXTS), 2), np.nan)
    with pytest.raises(FloatingPointError, match="the loss is nan at step 1"):
        train_textcat(nlp, TEXTS, targets, TextcatTraining(), 0, lambda nlp: 0.0, "training")


# ---- a whole run ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def distil(run_cli, data_options, teacher_folder):
    def run(output, *more):
        settings = ["--architecture", "bow", "--epochs", 2, "--batch-size", 8, "--n-iter", 1]
        settings += ["--max-length", 32, "--pos-tagger", "textblob", "--learning-rate", 0.05]
        given = [*data_options, "--teacher", teacher_folder, "--output", output, *settings]
        return run_cli("distill", "spacy", *given, *more)

    return run


@pytest.fixture(scope="module")
def finished(distil, own_files, tmp_path_factory):
    output = tmp_path_factory.mktemp("spacy") / "run"
    unlabelled = ["--unlabelled-file", own_files / "unlabelled.csv", "--unlabelled-n-iter", 0]
    more = ["--seeds", 0, 1, "--baseline-epochs", 3, "--results-dir", output.parent / "published"]
    assert distil(output, *more, *unlabelled) == 0
    return output


def test_results_json_has_teacher_baseline_and_student(finished):
    results = json.loads((finished / "results.json").read_text())
    assert list(results["models"]) == ["teacher", "student_without_teacher", "student"]
    assert results["seeds"] == [0, 1] and results["speed"]["median_ms"]["student"] > 0
    assert "spacy" in results["versions"] and results["config"]["baseline_epochs"] == 3
    for method in ("spacy_bow_without_teacher", "spacy_bow_distilled"):
        for seed in (0, 1):
            published = json.loads(
                (finished.parent / "published" / method / "mine" / f"{seed}.json").read_text()
            )
            assert published["method"] == method and published["score"] == pytest.approx(
                published["metrics"]["accuracy"]
            )


def test_saved_students_load_with_spacy_alone_and_answer_as_they_were_scored(finished, own_files):
    import csv

    with (own_files / "test.csv").open() as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    code = (
        "import json, spacy, sys\n"
        "nlp = spacy.load(sys.argv[1])\n"
        "print(json.dumps([nlp(text).cats for text in json.load(sys.stdin)]))\n"
        "assert not {'nlp_distill.students', 'nlp_distill.pipelines', 'transformers'} & set(sys.modules)"
    )
    for name in ("student-seed0", "student_without_teacher-seed1"):
        said = subprocess.run(
            [sys.executable, "-c", code, str(finished / name)],
            input=json.dumps(texts),
            capture_output=True,
            text=True,
            check=True,
        )
        answers = [[row["negative"], row["positive"]] for row in json.loads(said.stdout)]
        logits = load_logits(finished / name / "logits.npz")["test"]
        np.testing.assert_allclose(answers, np.exp(logits), atol=1e-5)


def test_the_student_learns_the_teachers_probabilities_and_the_baseline_the_labels(
    finished, monkeypatch, distil, tmp_path
):
    from nlp_distill.pipelines import spacy_textcat

    seen = {}
    real = spacy_textcat.train_textcat

    def keep(nlp, texts, targets, training, seed, score, title, progress_file):
        seen[title] = (texts, targets, training.epochs)
        return real(nlp, texts, targets, training, seed, score, title, progress_file)

    monkeypatch.setattr(spacy_textcat, "train_textcat", keep)
    output = tmp_path / "run"
    assert distil(output) == 0
    texts, targets, _ = seen["training the student, seed 0"]
    table = load_labelled(output / "labels" / "labelled.parquet", ("negative", "positive"))
    logits = np.array(table["teacher_logits"].to_pylist())
    assert texts == table["text"].to_pylist() and len(texts) > 40
    np.testing.assert_allclose(targets, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), atol=1e-6)
    texts, targets, _ = seen["training the student without teacher, seed 0"]
    assert len(texts) == 40 and set(np.unique(targets)) == {0.0, 1.0}
    assert all(targets.sum(axis=1) == 1)


def test_a_second_run_trains_nothing_and_another_setting_is_named(finished, distil, own_files, capsys):
    unlabelled = ["--unlabelled-file", own_files / "unlabelled.csv", "--unlabelled-n-iter", 0]
    more = ["--seeds", 0, 1, "--baseline-epochs", 3, *unlabelled]
    before = {path: path.stat().st_mtime_ns for path in finished.rglob(FINISHED)}
    assert distil(finished, *more) == 0
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob(FINISHED)} and len(before) == 7
    assert distil(finished, *more, "--dropout", 0.5) == 2
    assert "training.dropout" in capsys.readouterr().err.splitlines()[-1]


def test_a_stop_in_the_scoring_costs_no_epoch_of_the_training(distil, tmp_path, monkeypatch):
    from nlp_distill.pipelines import spacy_textcat
    from nlp_distill.students import spacy_textcat as student

    def stop(*arguments):
        raise KeyboardInterrupt

    epochs, original = [], student._train_epoch

    def count(*arguments):
        epochs.append(1)
        return original(*arguments)

    monkeypatch.setattr(student, "_train_epoch", count)
    with monkeypatch.context() as patch:
        patch.setattr(spacy_textcat._Stages, "_score", stop)
        assert distil(tmp_path / "run") == 130
    assert distil(tmp_path / "run") == 0
    assert len(epochs) == 4  # two of each student
    assert not list((tmp_path / "run").rglob("progress.npz"))


def test_the_cards_code_runs_and_names_spacy(finished, monkeypatch):
    import re

    import yaml

    card = (finished / "student-seed1" / "README.md").read_text()
    fields = yaml.safe_load(card.split("---\n")[1])
    assert fields["library_name"] == "spacy" and str(finished) not in card
    monkeypatch.chdir(finished)
    exec(compile(re.search(r"```python\n(.*?)```", card, re.S)[1], "card", "exec"), {})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--text-pair-column", "second"], "is a pair task"),
        (["--label-column", "score"], "is a regression"),
        (["--language", "klingon"], "no blank pipeline"),
        (["--ngram-size", 0], "ngram_size is 0"),
        (["--ngram-size", 10**9], "ngram_size is 1000000000"),
        (["--architecture", "ensemble", "--ngram-size", 2], "give --architecture bow too"),
        (["--epochs", 0], "epochs is 0"),
        (["--baseline-epochs", 1.5], "epochs of the baseline is 1.5"),
        (["--seeds", 1, 1], "each once"),
        (["--learning-rate", -1], "learning_rate is -1"),
        (["--num-train-epochs", 1], "unknown option --num-train-epochs"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_before_any_work(more, message, distil, tmp_path, capsys):
    try:
        code = distil(tmp_path / "out", *more)
    except SystemExit as stop:
        code = stop.code
    assert code == 2 and message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
