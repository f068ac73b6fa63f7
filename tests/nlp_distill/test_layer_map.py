"""Layer maps: the pairs of the papers, rounding, and mistakes that quote the valid range."""

import pytest

from data_augment.errors import InputError
from nlp_distill.layer_map import describe_map, explicit, last, uniform


@pytest.mark.parametrize(
    ("student", "teacher", "pairs"),
    [
        (4, 12, ((0, 0), (1, 3), (2, 6), (3, 9), (4, 12))),  # TinyBERT4, section 4.1: g(m) = 3 m
        (6, 12, ((0, 0), (1, 2), (2, 4), (3, 6), (4, 8), (5, 10), (6, 12))),  # TinyBERT6: g(m) = 2 m
        (3, 6, ((0, 0), (1, 2), (2, 4), (3, 6))),
        (4, 6, ((0, 0), (1, 2), (2, 3), (3, 5), (4, 6))),  # 1.5 and 4.5 go up
        (1, 6, ((0, 0), (1, 6))),
        (6, 6, tuple((layer, layer) for layer in range(7))),
    ],
)
def test_uniform_is_m_times_n_over_m(student, teacher, pairs):
    assert uniform(student, teacher) == pairs


def test_uniform_takes_no_teacher_layer_twice_and_rounds_by_at_most_a_half():
    for teacher in range(1, 25):
        for student in range(1, teacher + 1):
            pairs = uniform(student, teacher)
            layers = [layer for _, layer in pairs]
            assert layers == sorted(set(layers)) and layers[0] == 0 and layers[-1] == teacher
            assert all(abs(layer - m * teacher / student) <= 0.5 for m, layer in pairs)


def test_last_takes_the_teachers_last_layers():
    assert last(4, 12) == ((0, 0), (1, 9), (2, 10), (3, 11), (4, 12))
    assert last(6, 6) == uniform(6, 6)


def test_explicit_pairs_come_in_the_students_order():
    assert explicit([(3, 12), (1, 1)])(3, 12) == ((1, 1), (3, 12))


@pytest.mark.parametrize("layer_map", [uniform, last])
@pytest.mark.parametrize(("student", "teacher"), [(0, 6), (7, 6)])
def test_a_student_that_is_deeper_or_empty_is_refused(layer_map, student, teacher):
    with pytest.raises(InputError, match=rf"student has {student} layers and the teacher 6; .* 1 to 6"):
        layer_map(student, teacher)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (
            [(1, 13)],
            "teacher has 12 layers but layer_map uses 13; indices run 0–12, where 0 is the embeddings",
        ),
        ([(5, 12)], "student has 4 layers but layer_map uses 5; indices run 0–4, where 0 is the embeddings"),
        ([(1, -1)], "teacher has 12 layers but layer_map uses -1"),
    ],
)
def test_indices_out_of_range_are_errors_that_quote_the_range(pairs, message):
    with pytest.raises(InputError, match=message):
        explicit(pairs)(4, 12)


def test_no_pairs_and_a_student_layer_named_twice_are_refused():
    with pytest.raises(InputError, match="no pairs"):
        explicit([])
    with pytest.raises(InputError, match="names a student layer twice"):
        explicit([(1, 2), (1, 3)])


def test_a_map_is_described_by_what_tells_it_from_others():
    assert [describe_map(layer_map) for layer_map in (uniform, last)] == ["uniform", "last"]
    assert describe_map(explicit([(3, 6), (0, 0)])) == [[0, 0], [3, 6]] != describe_map(explicit([(3, 5)]))
    assert explicit([(3, 6), (0, 0)]) == explicit([(0, 0), (3, 6)])
