"""Whether a processor can do what reduced precision asks of it."""

import functools
import signal
import subprocess
import sys

from transformers import TrainingArguments

from data_augment.errors import InputError

# As large as layers are: smaller products run by other instructions.
TRIAL = """
import torch
rows, weights = (torch.ones(256, 256, dtype=torch.bfloat16, requires_grad=True) for _ in range(2))
torch.nn.functional.linear(rows, weights).sum().backward()
"""


def check_bf16(args: TrainingArguments) -> None:
    """Refuse bf16 on a CPU that ends a process for it.

    Some machines announce instructions for bf16 (AMX) and do not allow them: the training would be gone at its first
    step, without a word.

    Raises:
        InputError: saying how the trial ended.
    """
    if args.bf16 and args.device.type == "cpu" and (ending := try_bf16()):
        raise InputError(
            f"bf16 was asked for, and this processor does not run it (a trial ended with {ending}); leave it out: fp32 "
            "is the default"
        )


@functools.cache
def try_bf16() -> str:
    """How a trial of bf16, in a process of its own, went wrong; "" where it went well."""
    code = subprocess.run([sys.executable, "-c", TRIAL], capture_output=True).returncode
    return signal.Signals(-code).name if code < 0 else f"exit code {code}" if code else ""
