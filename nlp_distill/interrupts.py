"""Ctrl-C and SIGTERM: a training ends at its next step with a checkpoint; everything else stops where it is."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from transformers import Trainer, TrainerCallback

from nlp_distill.processes import Interrupted, interrupt

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def checkpoint_on_signals(trainer: Trainer) -> Iterator[None]:
    """The first signal lets ``trainer`` finish its step, save a checkpoint and stop; a second stops it at once.

    Several processes would hear it at different steps, and wait for each other for ever: they stop at once, and
    continue from their last checkpoint.

    Raises:
        Interrupted: when the block ends, if there was a signal, so that nothing is built on an unfinished training.
    """
    is_main_thread = threading.current_thread() is threading.main_thread()  # the only one that hears signals
    if not is_main_thread or trainer.args.world_size > 1:
        yield
        return
    stop = _StopAfterStep()

    def hear(number: int, frame: FrameType | None) -> None:
        if stop.number is not None:
            interrupt(number, frame)
        stop.number = number
        print("\nstopping after this step; once more to stop at once", file=sys.stderr, flush=True)

    before = {number: signal.signal(number, hear) for number in SIGNALS}
    trainer.add_callback(stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        trainer.remove_callback(stop)
    if stop.number is not None:
        raise Interrupted(stop.number)


class _StopAfterStep(TrainerCallback):
    """Save, then stop, once a signal was heard.

    In two moves: a checkpoint keeps the Trainer's control state, and must not say that training is over.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.is_done = False

    def on_step_end(self, args, state, control, **kwargs):
        # The last step of an epoch, or of all, waits for the epoch's own evaluation, which a resumed run would not make
        # up for.
        is_last = abs(state.epoch - round(state.epoch)) < 1e-6 or state.global_step >= state.max_steps
        if self.number is not None and not is_last:
            control.should_save = True

    def on_epoch_end(self, args, state, control, **kwargs):
        if self.is_done:  # in the middle of an epoch, where the uninterrupted run evaluates nothing
            control.should_evaluate = control.should_save = control.should_log = False
        elif self.number is not None:
            control.should_save = True

    def on_save(self, args, state, control, **kwargs):
        if self.number is not None:
            control.should_training_stop = self.is_done = True
