"""What to do where memory runs out."""

import torch


def lacks_memory(error: BaseException) -> bool:
    """Whether an error of torch means that memory ran out: on an accelerator, or its CPU allocator's."""
    is_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return is_cpu or isinstance(error, (torch.OutOfMemoryError, MemoryError))
