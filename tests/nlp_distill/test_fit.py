"""A student for a budget: what a candidate is, which is tried and taken, the frontier, whole runs on a tiny task."""

import csv
import itertools
import json
import random

import numpy as np
import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from data_augment.errors import InputError
from nlp_distill.benchmark import measure_size
from nlp_distill.pipelines import fit_stages
from nlp_distill.pipelines.bilstm_config import CNNShape
from nlp_distill.pipelines.fit import warn_of_few_rows
from nlp_distill.pipelines.fit_choice import (
    Measured,
    choose,
    explain_drops,
    explain_over_budget,
    find_frontier,
    is_within,
    measure_drop,
    order_by_promise,
    round_up,
    try_candidates,
)
from nlp_distill.pipelines.fit_config import (
    BiLSTMCandidate,
    Budget,
    CNNCandidate,
    FitTraining,
    TransformerCandidate,
    choose_relation_heads,
    default_candidates,
    join_candidates,
    parse_candidate,
    plan_transformer,
    plan_word_student,
)
from nlp_distill.pipelines.fit_measure import make_task_text
from nlp_distill.runtime import Classifier
from nlp_distill.students import MultiTaskModel, Shape, TaskHead
from nlp_distill.tasks import Task, TaskData
from nlp_distill.tasks.splits import Row, to_dataset

MINILM = Shape(layers=6, hidden=384, heads=12, ffn=1536)
TINY = Shape(layers=2, hidden=16, heads=2, ffn=32)  # the teacher of the tests


# ---- candidates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("3x312", Shape(3, 312, 12, 1200)),  # TinyBERT's inner size
        ("4x384", Shape(4, 384, 12, 1536)),
        ("2x128", Shape(2, 128, 8, 512)),  # 12 does not divide 128; the next smaller number that does
        ("2x128:2", Shape(2, 128, 2, 512)),
        ("2X128:2:300", Shape(2, 128, 2, 300)),
    ],
)
def test_a_transformer_is_layers_times_width_with_heads_and_inner_size_filled_in(text, shape):
    assert parse_candidate(text, MINILM) == TransformerCandidate(text.lower(), shape)


def test_the_inner_size_is_never_larger_than_the_teachers():
    narrow = Shape(layers=2, hidden=16, heads=2, ffn=20)
    assert parse_candidate("1x16", narrow) == TransformerCandidate("1x16", Shape(1, 16, 2, 20))


def test_a_bilstm_is_units_and_perhaps_an_embedding_size():
    assert parse_candidate("bilstm:64", None) == BiLSTMCandidate("bilstm:64", 64, 150)
    assert parse_candidate(" BiLSTM:300:50 ", MINILM) == BiLSTMCandidate("bilstm:300:50", 300, 50)


def test_a_cnn_is_filters_and_perhaps_an_embedding_size():
    assert parse_candidate("cnn:100", None) == CNNCandidate("cnn:100", 100, 150)
    assert parse_candidate("CNN:50:64", MINILM) == CNNCandidate("cnn:50:64", 50, 64)
    config = plan_word_student(CNNCandidate("cnn:50:64", 50, 64), FitTraining(), 32)
    assert config.shape == CNNShape(50) and config.dropout == 0.5 and config.word_vectors.size == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3 x 312", "'3 x 312' is no shape; give LAYERSxWIDTH such as 3x312"),
        ("lstm:64", "is no shape"),
        ("bilstm", "is no shape"),
        ("3x312:", "is no shape"),
        ("", "is no shape"),
        ("0x312", "layers is 0"),
        ("3x0", "the width of 3x0 is 0"),
        ("3x312:5", "the heads must divide the hidden size"),
        ("3x312:0", "heads is 0"),
        ("3x312:12:0", "ffn is 0"),
        ("7x312", "7x312 is larger than the teacher, which has 6 layers of 384"),
        ("3x512", "is larger than the teacher"),
        ("3x312:12:2000", "is larger than the teacher"),
        ("bilstm:0", "the units of bilstm:0 is 0"),
        ("bilstm:64:0", "the embedding size of bilstm:64:0 is 0"),
        ("cnn", "is no shape"),
        ("cnn:0", "the filters of cnn:0 is 0"),
        ("cnn:9:0", "the embedding size of cnn:9:0 is 0"),
        ("bilstm:99999999999", "from 1 to 4096"),
    ],
)
def test_what_is_no_candidate_is_refused_by_name(text, message):
    with pytest.raises(InputError) as refused:
        parse_candidate(text, MINILM)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_teacher_that_is_no_transformer_teaches_bilstms_only():
    with pytest.raises(InputError, match="no transformer that 3x312 could be cut from"):
        parse_candidate("3x312", None)
    assert [candidate.name for candidate in default_candidates(None)] == ["bilstm:64", "bilstm:150"]


def test_the_default_candidates_are_those_that_the_teacher_can_teach():
    names = [candidate.name for candidate in default_candidates(MINILM)]
    assert names == ["bilstm:64", "bilstm:150", "2x128", "3x312", "4x312"]
    shallow = Shape(layers=3, hidden=312, heads=12, ffn=1200)
    names = [candidate.name for candidate in default_candidates(shallow, with_bilstm=False)]
    assert names == ["2x128", "3x312"]


def test_a_general_student_takes_the_place_of_its_shape_and_nothing_is_there_twice():
    listed = [parse_candidate(text, MINILM) for text in ("2x128", "3x312")]
    general = TransformerCandidate("3x312", Shape(3, 312, 12, 1200), "general")
    assert join_candidates(listed, [general]) == [listed[0], general]
    for twice in (["2x128", "2x128"], ["2x128", "2x128:8:512"], ["bilstm:64", "bilstm:64:150"]):
        with pytest.raises(InputError, match="is there twice; give each once"):
            join_candidates([parse_candidate(text, MINILM) for text in twice], [])
    with pytest.raises(InputError, match="is there twice"):
        join_candidates([], [general, general])
    with pytest.raises(InputError, match="no candidate to measure"):
        join_candidates([], [])


def test_the_baseline_has_twice_the_epochs_of_the_student():
    training = FitTraining(training={"num_train_epochs": 5.0})
    bilstm = plan_word_student(BiLSTMCandidate("bilstm:8", 8), training, 32)
    assert bilstm.training["num_train_epochs"] == 5 and bilstm.baseline_training["num_train_epochs"] == 10
    small = plan_transformer(parse_candidate("2x128", MINILM), MINILM, training, 32)
    assert small.prediction_training["num_train_epochs"] == 5 and small.baseline_epochs == 10
    assert small.intermediate_training["num_train_epochs"] == 2  # not the prediction stage's
    assert small.baselines == ("student_without_teacher",)


def test_heads_that_differ_are_compared_by_relations_that_divide_both_widths():
    plan = plan_transformer(parse_candidate("2x128", MINILM), MINILM, FitTraining(), 32)
    assert plan.relation_heads == 16
    assert (
        plan_transformer(parse_candidate("3x312", MINILM), MINILM, FitTraining(), 32).relation_heads is None
    )
    assert choose_relation_heads(Shape(1, 9, 3, 4), Shape(2, 16, 2, 32)) == 1
    assert choose_relation_heads(Shape(1, 12, 3, 4), Shape(2, 16, 2, 32)) == 4


# ---- which is tried, and which is taken ------------------------------------------------------------------------------

COSTS = [
    Measured("fast", 0.4, 0.6, 2.0, 100),
    Measured("middle", 1.5, 1.9, 9.0, 900),
    Measured("twin", 1.5, 2.1, 11.0, 1100),
    Measured("slow", 3.0, 3.5, 15.0, 1500),
]


def names_within(budget):
    return [one.name for one in order_by_promise(COSTS) if is_within(one, budget)]


def test_what_is_within_the_budget_is_tried_slowest_first_and_of_equals_the_largest():
    assert names_within(Budget(9)) == ["slow", "twin", "middle", "fast"]
    assert names_within(Budget(1.5)) == [
        "twin",
        "middle",
        "fast",
    ]  # the median decides, and may be met exactly
    assert names_within(Budget(1.5, max_mb=9)) == ["middle", "fast"]
    assert names_within(Budget(0.39)) == []


@pytest.mark.parametrize(
    ("drops", "finished", "max_drop", "at_most", "tried", "chosen"),
    [
        # Stop at the first that satisfies.
        ({"slow": 0.5, "twin": 0.1, "middle": 0, "fast": 0}, [], 1, 9, ["slow"], "slow"),
        ({"slow": 2, "twin": 1, "middle": 0, "fast": 0}, [], 1, 9, ["slow", "twin"], "twin"),
        # Stop at the limit.
        ({"slow": 2, "twin": 3, "middle": 0, "fast": 0}, [], 1, 2, ["slow", "twin"], None),
        ({"slow": 2, "twin": 3, "middle": 4, "fast": 5}, [], 1, 9, ["slow", "twin", "middle", "fast"], None),
        # Those of earlier runs first, all of them; nothing more where one satisfies.
        (
            {"slow": 0, "twin": 9, "middle": 0.5, "fast": 0.9},
            ["fast", "middle"],
            1,
            9,
            ["middle", "fast"],
            "middle",
        ),
        ({"slow": 0, "twin": 0, "middle": 3, "fast": 2}, ["middle"], 1, 9, ["middle", "slow"], "slow"),
        ({"slow": 0, "twin": 0, "middle": 3, "fast": 2}, ["middle"], 1, 1, ["middle"], None),
        # Of equals the fastest; better than the teacher is fine.
        (
            {"middle": -1.0, "fast": -1.0, "slow": 0, "twin": 0},
            ["middle", "fast"],
            0,
            9,
            ["middle", "fast"],
            "fast",
        ),
    ],
)
def test_candidates_are_tried_until_one_satisfies(drops, finished, max_drop, at_most, tried, chosen):
    asked = []

    def compute_drop(name):
        asked.append(name)
        return drops[name]

    order = order_by_promise(COSTS)
    found = try_candidates(order, finished, compute_drop, max_drop, at_most)
    assert asked == tried and found == {name: drops[name] for name in tried}
    assert choose(order, found, max_drop) == chosen


def test_a_budget_that_no_candidate_meets_names_the_nearest_in_numbers_that_can_be_asked_for():
    costs = [Measured("bilstm:64", 0.4012, 1, 2.341, 1), Measured("3x312", 3, 4, 15, 1)]
    message = explain_over_budget(costs, Budget(0.1))
    assert message == (
        "no candidate answers within 0.1 ms; the fastest is bilstm:64 at 0.41 ms; "
        "give --latency-ms 0.41 or more, or smaller --shapes"
    )
    message = explain_over_budget(costs, Budget(5, max_mb=1))
    assert "the smallest of them is bilstm:64 with 2.35 MB; give --max-mb 2.35 or more" in message
    message = explain_over_budget(costs, Budget(0.41, max_mb=1))  # the fast ones alone
    assert "no candidate that answers within 0.41 ms has at most 1 MB" in message
    assert explain_over_budget(costs, Budget(0.41, max_mb=2.35)) is None


def test_drops_that_are_too_large_name_the_nearest_and_what_was_not_tried():
    order = order_by_promise(COSTS)
    message = explain_drops(order, {"slow": 2.0, "twin": 1.234}, Budget(9, max_drop=0.5))
    assert "stays within 0.5 points of the teacher; the nearest is twin, 1.24 points below" in message
    assert "give --max-drop 1.24 or more" in message and "--max-candidates 4 to try the 2 left" in message
    assert "left" not in explain_drops(order[:1], {"slow": 2.0}, Budget(9))


def test_a_drop_is_in_points_and_free_of_rounding():
    assert 100 * (0.85 - 0.84) > 1 and measure_drop(0.85, 0.84) == 1
    assert measure_drop(0.5, 0.75) == -25
    assert [round_up(value) for value in (0.4, 0.401, 0.41, 2, 0.0001)] == [0.4, 0.41, 0.41, 2, 0.01]


@pytest.mark.parametrize("seed", range(20))
def test_the_frontier_is_that_of_comparing_every_pair(seed):
    source = random.Random(seed)
    points = [(source.randint(1, 6), source.randint(1, 6)) for _ in range(source.randint(0, 15))]  # with ties

    def beats(other, own):
        return other[0] <= own[0] and other[1] >= own[1] and other != own

    assert find_frontier(points) == [not any(beats(other, own) for other in points) for own in points]


def test_a_frontier_of_numbers_that_are_none_is_refused():
    with pytest.raises(InputError, match="is no number"):
        find_frontier([(1.0, float("nan"))])


# ---- what is measured ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_pair", [False, True])
def test_the_text_has_the_tokens_asked_for_in_words_of_the_task(tokenizer, is_pair):
    task = Task("mine", "text", "second" if is_pair else None, ("a", "b"), ("accuracy",))
    texts = ["the film was good", "a dull plot"]
    rows = to_dataset(task, "train", [Row(i, (text,) * (1 + is_pair), 0) for i, text in enumerate(texts)])
    data = TaskData(task=task, train=rows, validation=rows, test=rows)
    for tokens in (5, 6, 13, 40):
        text, counted = make_task_text(tokenizer, data, tokens)
        both = text if is_pair else (text,)
        assert isinstance(text, tuple) == is_pair
        assert counted == tokens == len(tokenizer(*both)["input_ids"])
        assert set(" ".join(both).split()) <= set(" ".join(texts).split())
    with pytest.raises(InputError, match=f"no room for words; give --tokens {5 if is_pair else 3} or more"):
        make_task_text(tokenizer, data, 2)


def test_a_text_without_spaces_between_words_is_cut_at_characters(tokenizer):
    task = Task("mine", "text", None, ("a", "b"), ("accuracy",))
    rows = to_dataset(task, "train", [Row(0, ("\u8fd9\u90e8\u7535\u5f71\u5f88\u597d" * 5,), 0)])
    text, counted = make_task_text(tokenizer, TaskData(task=task, train=rows, validation=rows, test=rows), 9)
    assert counted == 9 == len(tokenizer(text)["input_ids"])


# ---- whole runs ------------------------------------------------------------------------------------------------------

SHAPES = ["--shapes", "bilstm:6:8", "1x8"]
FAST = ["--num-train-epochs", 1, "--intermediate-epochs", 1, "--max-length", 32, "--pos-tagger", "textblob"]
TIMES = {"teacher": 9.0, "bilstm:6:8": 1.0, "1x8": 2.0}


@pytest.fixture
def fit(run_cli, data_options, teacher_folder, tmp_path):
    def run(*more, runtime="torch", output=tmp_path / "run", data=data_options, teacher=teacher_folder):
        given = [*data, "--teacher", teacher, "--output", output, *SHAPES, *FAST, "--repeats", 3]
        return run_cli("fit", *given, "--tokens", 10, "--runtime", runtime, *more)

    return run


@pytest.fixture
def fixed_times(monkeypatch):
    """Times that do not depend on how busy the machine is; the models are opened and answer all the same."""
    measured = []

    def measure(subjects, texts, threads, repeats):
        for subject in subjects:
            subject.set_threads(threads)
            assert np.isfinite(subject.answer(texts)).all()
        measured.append(len(subjects))
        return [{"p50_ms": p50, "p95_ms": 2 * p50} for p50 in TIMES.values()][: len(subjects)]

    monkeypatch.setattr(fit_stages, "measure_latency", measure)
    return measured


def read(folder):
    results = json.loads((folder / "fit.json").read_text())
    return results, {row["name"]: row for row in results["rows"]}


def list_trained(folder):
    """When the weights of every trained student were written."""
    return {path: path.stat().st_mtime_ns for path in (folder / "candidates").rglob("model.safetensors")}


def test_the_first_candidate_that_satisfies_is_taken_and_the_others_are_not_trained(
    fit, fixed_times, tmp_path, capsys
):
    assert fit("--latency-ms", 5, "--max-drop", 100) == 0
    results, rows = read(tmp_path / "run")
    assert fixed_times == [3]
    # Slowest first, whatever the order they were given in.
    names = ["teacher", "1x8", "1x8, without the teacher", "bilstm:6:8"]
    assert list(rows) == names
    statuses = ["teacher", "satisfies", "for comparison", "not tried"]
    assert [row["status"] for row in rows.values()] == statuses
    assert results["chosen"] == "1x8" and results["refusal"] is None
    own, teacher = rows["1x8"], rows["teacher"]
    assert own["drop"] == pytest.approx(100 * (teacher["validation"] - own["validation"]))
    assert own["path"] == results["path"] == str(tmp_path / "run" / "candidates" / "1x8" / "student-seed0")
    AutoTokenizer.from_pretrained(own["path"])
    student = AutoModelForSequenceClassification.from_pretrained(own["path"])
    assert student.config.hidden_size == 8 and own["mb"] == pytest.approx(measure_size(own["path"]), rel=0.05)
    assert own["parameters"] == sum(weight.numel() for weight in student.parameters())
    assert rows["bilstm:6:8"]["validation"] is None and not (tmp_path / "run/candidates/bilstm-6-8").exists()
    captured = capsys.readouterr()
    assert captured.out.strip().endswith((tmp_path / "run" / "fit.md").read_text().strip())
    assert f"**1x8 satisfies both**: 2.00 ms, {abs(own['drop']):.2f} points" in captured.out
    assert f"It lies in `{own['path']}`" in captured.out


def test_scores_are_those_of_the_runs_themselves(fit, fixed_times, tmp_path):
    assert fit("--latency-ms", 5, "--max-drop", 100) == 0
    results, rows = read(tmp_path / "run")
    run = json.loads((tmp_path / "run" / "candidates" / "1x8" / "results.json").read_text())["models"]
    arms = {"teacher": "teacher", "1x8": "student", "1x8, without the teacher": "student_without_teacher"}
    for name, arm in arms.items():
        assert rows[name]["test"] == pytest.approx(run[arm]["score"])
        assert rows[name]["validation"] == pytest.approx(run[arm]["validation_score"])


def test_another_budget_trains_nothing_that_is_there(fit, fixed_times, tmp_path, capsys):
    run = tmp_path / "run"
    assert fit("--latency-ms", 1.5, "--max-drop", 100) == 0
    assert read(run)[0]["chosen"] == "bilstm:6:8"
    before = list_trained(run)
    assert len(before) == 2
    capsys.readouterr()
    # Both looser: the slower candidate is within now, but one that satisfies is there already.
    assert fit("--latency-ms", 5, "--max-drop", 101) == 0
    said = capsys.readouterr().err
    assert (
        "measuring 2 candidates and the teacher: reusing" in said and "distilling bilstm:6:8: reusing" in said
    )
    assert "training the" not in said and "distilling 1x8" not in said
    assert read(run)[0]["chosen"] == "bilstm:6:8" and list_trained(run) == before and fixed_times == [3]


def test_a_latency_that_nothing_meets_ends_before_any_training(fit, fixed_times, tmp_path, capsys):
    assert fit("--latency-ms", 0.1) == 2
    captured = capsys.readouterr()
    assert captured.err.strip().splitlines()[-1] == (
        "error: no candidate answers within 0.1 ms; the fastest is bilstm:6:8 at 1 ms; "
        "give --latency-ms 1 or more, or smaller --shapes"
    )
    results, rows = read(tmp_path / "run")
    assert {row["status"] for row in rows.values()} == {"teacher", "over budget"}
    assert "| bilstm:6:8 | 1.00 |" in captured.out and results["chosen"] is None
    assert not (tmp_path / "run" / "candidates").exists() and not (tmp_path / "run" / "rows").exists()
    assert fit("--latency-ms", 1, "--max-drop", 100) == 0  # what the message says is enough


def test_a_size_that_nothing_meets_ends_before_any_training(fit, fixed_times, tmp_path, capsys):
    assert fit("--latency-ms", 5, "--max-mb", 0.0001) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "has at most 0.0001 MB; the smallest of them is" in error
    assert not (tmp_path / "run" / "candidates").exists()


def test_students_that_all_lose_too_much_are_reported_and_kept(
    fit, fixed_times, tmp_path, capsys, monkeypatch
):
    """Shares the scores of a run, with a teacher that nothing comes near."""
    score = fit_stages.FitStages.score_teacher
    monkeypatch.setattr(
        fit_stages.FitStages, "score_teacher", lambda stages: score(stages) | {"validation": 2.0}
    )
    assert fit("--latency-ms", 5, "--max-candidates", 1) == 2
    results, rows = read(tmp_path / "run")
    drop = rows["1x8"]["drop"]
    assert rows["1x8"]["status"] == "distilled" and rows["bilstm:6:8"]["status"] == "not tried"
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"the nearest is 1x8, {round_up(drop):g} points below" in error
    assert "--max-candidates 2 to try the 1 left" in error and results["refusal"] in error
    before = list_trained(tmp_path / "run")
    assert fit("--latency-ms", 5, "--max-drop", round_up(drop)) == 0
    assert read(tmp_path / "run")[0]["chosen"] == "1x8" and list_trained(tmp_path / "run") == before
    # A tighter drop again, and room for the other: it learns from the rows that are labelled already.
    capsys.readouterr()
    assert fit("--latency-ms", 5, "--max-candidates", 2) == 2
    assert "labelling the transfer set: reusing" in capsys.readouterr().err
    now = list_trained(tmp_path / "run")
    assert now.items() >= before.items() and len(now) > len(before)
    # A candidate over the budget keeps the scores that it has.
    assert fit("--latency-ms", 1.5, "--max-candidates", 2) == 2
    _, rows = read(tmp_path / "run")
    assert rows["1x8"]["status"] == "over budget" and rows["1x8"]["drop"] == drop
    marked = {name for name, row in rows.items() if row["on_frontier"]}
    scored = {name: (row["p50_ms"], row["validation"]) for name, row in rows.items()}
    beaten = {
        one
        for one, other in itertools.permutations(scored, 2)
        if scored[other][0] <= scored[one][0]
        and scored[other][1] >= scored[one][1]
        and scored[other] != scored[one]
    }
    assert marked == set(scored) - beaten


def test_a_student_that_was_damaged_is_made_again(fit, fixed_times, tmp_path, capsys):
    options = ["--latency-ms", 1.5, "--max-drop", 100]
    assert fit(*options) == 0
    weights = tmp_path / "run" / "candidates" / "bilstm-6-8" / "student-seed0" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-8])
    capsys.readouterr()
    assert fit(*options) == 0
    assert "bytes, not" in capsys.readouterr().err and len(weights.read_bytes()) == len(whole)


def test_a_task_of_a_multi_task_teacher_is_taught(fit, fixed_times, teacher_folder, tmp_path, capsys):
    encoder = AutoModelForSequenceClassification.from_pretrained(teacher_folder)
    heads = [TaskHead("other", ("a", "b", "c")), TaskHead("reviews", ("negative", "positive"))]
    teacher = tmp_path / "several"
    MultiTaskModel.from_encoder(encoder, heads).save_pretrained(teacher)
    AutoTokenizer.from_pretrained(teacher_folder).save_pretrained(teacher)
    assert fit("--latency-ms", 5, "--max-drop", 100, teacher=teacher) == 2
    assert "was not trained on mine; give --teacher-task, one of other, reviews" in capsys.readouterr().err
    options = ["--latency-ms", 5, "--max-drop", 100, "--teacher-task", "reviews"]
    assert fit(*options, teacher=teacher) == 0 and read(tmp_path / "run")[0]["chosen"] == "1x8"


def test_an_interrupted_run_continues_where_it_stopped(fit, fixed_times, tmp_path, monkeypatch, capsys):
    train = fit_stages.distill_bilstm

    def interrupt(*args, **kwargs):
        train(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(fit_stages, "distill_bilstm", interrupt)
    assert fit("--latency-ms", 1.5, "--max-drop", 100) == 130
    before = list_trained(tmp_path / "run")
    monkeypatch.setattr(fit_stages, "distill_bilstm", train)
    assert fit("--latency-ms", 1.5, "--max-drop", 100) == 0
    assert (
        list_trained(tmp_path / "run") == before
        and "distilling bilstm:6:8: continuing" in capsys.readouterr().err
    )


def test_other_settings_are_refused_and_made_again_with_overwrite(fit, fixed_times, tmp_path, capsys):
    run = tmp_path / "run"
    assert fit("--latency-ms", 1.5, "--max-drop", 100) == 0
    before = list_trained(run)
    capsys.readouterr()
    assert fit("--latency-ms", 1.5, "--max-drop", 100, "--seed", 1) == 2
    assert "was made with other settings" in capsys.readouterr().err and list_trained(run) == before
    assert fit("--latency-ms", 1.5, "--max-drop", 100, "--seed", 1, "--overwrite") == 0
    assert not list_trained(run).keys() & before.keys()


def test_a_general_student_is_measured_and_distilled_in_its_own_shape(
    fit, fixed_times, run_cli, encoder_folder, tmp_path
):
    text = tmp_path / "text.txt"
    text.write_text("the film was good\nthe plot was dull\n" * 20)
    sizes = ["--layers", 1, "--hidden-size", 8, "--heads", 2, "--ffn-size", 12]
    where = ["--text", text, "--teacher", encoder_folder, "--output", tmp_path / "general"]
    assert run_cli("distill", "general", *where, *sizes, "--max-length", 16, "--max-steps", 2) == 0
    general = tmp_path / "general" / "student"
    assert fit("--latency-ms", 5, "--max-drop", 100, "--general", general) == 0
    results, rows = read(tmp_path / "run")
    student = AutoModelForSequenceClassification.from_pretrained(rows["1x8"]["path"])
    assert student.config.intermediate_size == 12  # the general student's, where 1x8 alone would have 32
    run = json.loads((tmp_path / "run" / "candidates" / "1x8" / "results.json").read_text())
    assert list(run["models"]) == ["teacher", "general_only", "student"]
    assert rows["1x8, without the teacher"]["test"] == pytest.approx(run["models"]["general_only"]["score"])


def test_exported_students_are_measured_scored_and_where_the_report_says(fit, own_files, tmp_path):
    """With real times: generous enough for any machine."""
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    assert fit("--latency-ms", 10_000, "--max-drop", 100, runtime="onnx-int8") == 0
    results, rows = read(tmp_path / "run")
    own = rows[results["chosen"]]
    assert 0 < own["p50_ms"] <= own["p95_ms"]
    classifier = Classifier(results["path"], batch_size=1)
    assert classifier.settings["quantize"] == "int8-dynamic"
    # The score of the form that ships, worked out again.
    with (own_files / "validation.csv").open(encoding="utf-8") as file:
        given = list(csv.DictReader(file))
    answers = [answer["label"] for answer in classifier([row["text"] for row in given])]
    right = sum(answer == row["label"] for answer, row in zip(answers, given, strict=True)) / len(given)
    assert own["validation"] == pytest.approx(right)


def test_another_runtime_exports_again_and_trains_nothing(fit, fixed_times, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    options = ["--latency-ms", 1.5, "--max-drop", 100, "--shapes", "bilstm:6:8"]
    assert fit(*options) == 0
    before = list_trained(tmp_path / "run")
    assert fit(*options, runtime="onnx") == 0
    assert list_trained(tmp_path / "run") == before and fixed_times == [2, 2]
    assert (tmp_path / "run" / "shipped" / "bilstm-6-8-onnx" / "model.onnx").exists()


def test_a_cnn_is_found_and_shipped(fit, fixed_times, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    options = ["--latency-ms", 1.5, "--max-drop", 100, "--shapes", "cnn:4:8"]
    assert fit(*options, runtime="onnx-int8") == 0
    results, rows = read(tmp_path / "run")
    assert results["chosen"] == "cnn:4:8" and {"teacher", "cnn:4:8, without the teacher"} < set(rows)
    assert 0 <= rows["cnn:4:8"]["test"] <= 1 and len(Classifier(results["path"])(["a good film"])) == 1


def test_pairs_and_regressions_find_their_student(
    fit, fixed_times, run_cli, own_files, encoder_folder, tmp_path, capsys
):
    data = [
        "--task",
        "mine",
        "--text-column",
        "text",
        "--text-pair-column",
        "second",
        "--label-column",
        "score",
    ]
    for split in ("train", "validation", "test"):
        data += [f"--{split}-file", own_files / f"{split}.csv"]
    training = ["--num-train-epochs", 1, "--learning-rate", "1e-2", "--max-length", 32]
    teacher = tmp_path / "teacher"
    assert run_cli("finetune", "--model", encoder_folder, "--output", teacher, *data, *training) == 0
    assert fit("--latency-ms", 1.5, "--max-drop", 3, data=data, teacher=teacher) in (0, 2)
    assert "points of accuracy" not in capsys.readouterr().err  # of a correlation a row is no fixed share
    assert fit("--latency-ms", 1.5, "--max-drop", 300, data=data, teacher=teacher) == 0
    results, rows = read(tmp_path / "run")
    assert results["metric"] == "spearmanr" and results["chosen"] == "bilstm:6:8"
    assert -1 <= rows["bilstm:6:8"]["validation"] <= 1


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--latency-ms", 0], "latency_ms is 0.0; it must be a number above 0"),
        (["--latency-ms", "nan"], "latency_ms is nan"),
        (["--max-drop", -1], "max_drop is -1.0; it must be a number of at least 0"),
        (["--max-mb", 0], "max_mb is 0.0"),
        (["--tokens", 0], "tokens is 0"),
        (["--tokens", 2], "a text of 2 tokens has no room for words; give --tokens 3 or more"),
        (["--tokens", 33], "texts are cut at 32; give --tokens 32 or less"),
        (["--threads", 0], "threads is 0"),
        (["--repeats", 0], "repeats is 0"),
        (["--runtime", "tensorrt"], "invalid choice: 'tensorrt'"),
        (["--shapes", "3y5"], "'3y5' is no shape"),
        (["--shapes", "3x8"], "3x8 is larger than the teacher, which has 2 layers of 16"),
        (["--shapes", "1x8", "1x8"], "the candidate 1x8 is there twice"),
        (["--general", "nowhere"], "cannot load 'nowhere'"),
        (["--max-candidates", 0], "max_candidates is 0"),
        (["--intermediate-epochs", 0], "intermediate_epochs is 0.0"),
        (["--intermediate-learning-rate", -1], "intermediate_learning_rate is -1.0"),
        (["--seed", -1], "the seed is -1"),
        (["--max-length", 4], "max_length is 4"),
        (["--max-length", 100], "reads at most 64 tokens"),
        (["--learning-rate", 0], "learning_rate is 0.0; it must be a number above 0"),
        (["--learning-rat", 1], "unknown option --learning-rat"),
        (["--n-iter", -1], "n_iter is -1"),
    ],
)
def test_settings_that_do_not_fit_get_one_line_before_any_work(fit, tmp_path, capsys, more, message):
    try:
        code = fit("--latency-ms", 5, *more)
    except SystemExit as stop:  # the parser's own refusal
        code = stop.code
    assert code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "error: " in error and message in error
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


def test_a_report_of_somebody_else_is_left_alone(fit, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "fit.json").write_text("[1, 2]")
    assert fit("--latency-ms", 5) == 2
    assert "fit.json exists and was not made by this command" in capsys.readouterr().err
    assert (tmp_path / "run" / "fit.json").read_text() == "[1, 2]"


def test_a_teacher_of_another_task_is_refused(fit, make_bert, tokenizer, tmp_path, capsys):
    make_bert(labels=("yes", "no")).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    assert fit("--latency-ms", 5, teacher=tmp_path / "other") == 2
    assert "they must be the same names" in capsys.readouterr().err


@pytest.mark.parametrize(("rows", "warns"), [(45, True), (100, False), (1000, False)])
def test_few_validation_rows_are_warned_of(rows, warns, capsys):
    warn_of_few_rows(rows, Budget(latency_ms=1.0, max_drop=1.0))
    assert ("of 45 validation rows each is 2.2 points" in capsys.readouterr().err) == warns
