"""One process or several: who writes and speaks, how they wait for each other, and what stops them."""

import os
import signal
import threading
from datetime import timedelta
from types import FrameType
from typing import Any

LONGEST_WAIT = timedelta(days=7)


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to stop.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


def interrupt(number: int, frame: FrameType | None) -> None:
    """A signal handler that raises ``Interrupted``."""
    raise Interrupted(number)


def stop_on_sigterm() -> None:
    """Let SIGTERM stop this process as Ctrl-C does, so that what is being written is put away in order."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)


def runs_on_cpu() -> bool:
    """Whether training runs on the CPU: it was asked for (``ACCELERATE_USE_CPU``), or there is no accelerator."""
    import torch
    from accelerate.utils import parse_flag_from_env

    return parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def choose_device():
    """Where models run: this process's accelerator where there is one, else, or where it was asked for, the CPU."""
    import torch

    if runs_on_cpu():
        return torch.device("cpu")
    kind: Any = torch.accelerator.current_accelerator()
    return torch.device(kind.type, torch.accelerator.current_device_index())


def join_processes():
    """accelerate's ``PartialState``: this process among those that a launcher started.

    On a CPU, accelerate sees the other processes only when it is told that the CPU is meant. The others wait for the
    first one while it labels, which takes longer than the half hour that torch.distributed grants by itself.
    """
    from accelerate import PartialState

    wait: dict[str, Any] = {"timeout": LONGEST_WAIT}
    return PartialState(cpu=True, **wait) if runs_on_cpu() else PartialState(**wait)


def is_main_process() -> bool:
    """Whether this process writes and speaks: the only one, or the first that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def leave_processes() -> None:
    """Wait for the other processes and part from them in order: one that ends first makes the others abort."""
    import torch.distributed as distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
