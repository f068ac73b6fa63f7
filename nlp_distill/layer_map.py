"""Layer maps: which teacher layer a student layer learns from.

A layer is named by its output: 0 is the embedding output, m in 1..M the output of the student's m-th layer, n in 1..N
that of the teacher's n-th. A map is a callable ``(student_layers, teacher_layers) -> ((m, n), ...)``; objectives and
students take one and ask it once they know both depths.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from data_augment.errors import InputError

LayerPairs = tuple[tuple[int, int], ...]
LayerMap = Callable[[int, int], LayerPairs]


def uniform(student_layers: int, teacher_layers: int) -> LayerPairs:
    """g(m) = m * N / M for m in 0..M: evenly spread, the last onto the last (TinyBERT: Jiao et al. 2019, section 4.1).

    Where N / M is not whole, g(m) is rounded to the nearest layer, halves up: 4 layers of 6 learn from 2, 3, 5, 6.
    With M <= N no teacher layer is taken twice.

    Args:
        student_layers: M >= 1.
        teacher_layers: N >= M.

    Raises:
        InputError: for a student that is deeper than its teacher.

    Example:
        >>> uniform(3, 6)
        ((0, 0), (1, 2), (2, 4), (3, 6))
    """
    _check_depths(student_layers, teacher_layers)
    # Halves up in whole numbers: round() would send 0.5 and 1.5 in different directions.
    return tuple(
        (layer, (2 * layer * teacher_layers + student_layers) // (2 * student_layers))
        for layer in range(student_layers + 1)
    )


def last(student_layers: int, teacher_layers: int) -> LayerPairs:
    """The student's layers learn from the teacher's last ones: g(m) = m + N - M, and embeddings from embeddings.

    "PKD-Last" of Sun et al. 2019 (arXiv 1908.09355, section 3.2), and the map of TinyBERT's ablation "top-strategy".

    Raises:
        InputError: for a student that is deeper than its teacher.

    Example:
        >>> last(3, 6)
        ((0, 0), (1, 4), (2, 5), (3, 6))
    """
    _check_depths(student_layers, teacher_layers)
    shift = teacher_layers - student_layers
    return ((0, 0), *((layer, layer + shift) for layer in range(1, student_layers + 1)))


@dataclass(frozen=True)
class ExplicitMap:
    """The map that :func:`explicit` makes.

    Args:
        pairs: (student layer, teacher layer), sorted.
    """

    pairs: LayerPairs

    def __call__(self, student_layers: int, teacher_layers: int) -> LayerPairs:
        """The pairs, after a look that both sides have these layers."""
        for side, layers, position in (("student", student_layers, 0), ("teacher", teacher_layers, 1)):
            for layer in (pair[position] for pair in self.pairs):
                if not 0 <= layer <= layers:
                    raise InputError(
                        f"{side} has {layers} layers but layer_map uses {layer}; indices run 0–{layers}, where 0 is "
                        "the embeddings"
                    )
        return self.pairs


def explicit(pairs: Iterable[tuple[int, int]]) -> ExplicitMap:
    """A map of your own: (student layer, teacher layer) pairs; student layers that are left out learn from none.

    Raises:
        InputError: for no pairs, or a student layer that is named twice; and, when the depths are known, for a layer
            out of range.

    Example:
        >>> explicit([(0, 0), (2, 3), (3, 6)])(3, 6)
        ((0, 0), (2, 3), (3, 6))
    """
    given = tuple((int(student), int(teacher)) for student, teacher in pairs)
    if not given:
        raise InputError("layer_map has no pairs; give at least one (student layer, teacher layer)")
    students = [student for student, _ in given]
    if len(set(students)) < len(students):
        raise InputError(
            f"layer_map names a student layer twice: {given}; each learns from one teacher layer"
        )
    return ExplicitMap(tuple(sorted(given)))


def describe_map(layer_map: LayerMap) -> str | list[list[int]]:
    """A map as a plain value: the pairs of an explicit one, the name of any other function."""
    if isinstance(layer_map, ExplicitMap):
        return [list(pair) for pair in layer_map.pairs]
    return getattr(layer_map, "__name__", type(layer_map).__name__)


def _check_depths(student_layers: int, teacher_layers: int) -> None:
    if student_layers < 1 or teacher_layers < student_layers:
        raise InputError(
            f"the student has {student_layers} layers and the teacher {teacher_layers}; this layer map needs 1 to "
            f"{teacher_layers} student layers, or give explicit pairs"
        )
