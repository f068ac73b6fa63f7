"""Where memory runs out: how it is known, a batch run in halves, and what stops with a message.

It is said by Python, NumPy, Arrow, or torch, which stays unloaded where it was not.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from data_augment.errors import InputError

# Of torch's plain RuntimeErrors: its CPU allocator, and the libraries of an accelerator.
MESSAGES = ("DefaultCPUAllocator", "CUDA error: out of memory", "ALLOC_FAILED")

Result = TypeVar("Result")


class MemoryLackError(InputError):
    """There was no memory for what was asked; what is done so far is kept, as it is when a process is killed."""


def lacks_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on an accelerator or the CPU."""
    if isinstance(error, MemoryError):  # NumPy's and Arrow's are kinds of it
        return True
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, torch.OutOfMemoryError) or any(part in str(error) for part in MESSAGES)


def run_in_memory(run: Callable[[dict[str, Any]], Result], batch: Mapping[str, Any]) -> list[Result]:
    """What ``run`` makes of a batch; of its halves, one after the other, where there is no memory for all of it.

    Args:
        run: of a batch of fewer rows, with the same padding.
        batch: tensors with the rows first, ``input_ids`` (rows, tokens) among them.

    Returns:
        The results of the parts, in the order of the rows.

    Raises:
        MemoryLackError: if there is none for one row.
    """
    try:
        return [run(dict(batch))]
    except (RuntimeError, MemoryError) as error:
        rows, tokens = batch["input_ids"].shape[:2]
        if not lacks_memory(error):
            raise
        if rows == 1:
            raise MemoryLackError(
                f"there is no memory to run the model on one row of {tokens} tokens; give a smaller --max-length"
            ) from error
    # Outside of the handler, whose error holds on to what the failed run had made.
    parts = slice(0, rows // 2), slice(rows // 2, rows)
    halves = ({name: value[part] for name, value in batch.items()} for part in parts)
    return [result for half in halves for result in run_in_memory(run, half)]
