"""Processes that work for this one, each behind a pipe of its own, so that the death of one is always noticed.

``ProcessPoolExecutor`` has one pipe for all results: a worker that is killed while it writes there leaves half a
message and a lock that nobody opens, and all wait for ever. Behind its own pipe a dead worker is an end of file.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any


class WorkerDied(Exception):
    """A worker ended before it had answered; the message says how.

    Args:
        exit_code: of the process; minus the signal's number where one ended it.
    """

    def __init__(self, exit_code: int | None):
        self.was_killed = exit_code is not None and exit_code < 0
        how = f"was killed by {_name_signal(-exit_code)}" if exit_code and self.was_killed else "died"
        super().__init__(f"a worker process {how}")


class Workers:
    """``number`` spawned processes that each compute ``prepare(*arguments)(item)`` for one item after another.

    Use it in a ``with`` block, at whose end the processes are ended, whatever they are doing. They end by themselves
    where this process is killed.

    Args:
        number: of processes.
        prepare: a function of a module, called once in every process; returns the function of an item.
        arguments: of ``prepare``. Keep them small: they are written into the pipe of a starting process, and if that
            dies, the write of a large one never ends.
    """

    def __init__(self, number: int, prepare: Callable[..., Callable[[Any], Any]], arguments: tuple):
        context = multiprocessing.get_context("spawn")
        self._workers = []
        self._free: SimpleQueue = SimpleQueue()
        self._threads = ThreadPoolExecutor(number)  # each waits for one worker at a time
        with _blocked_interrupts():
            for _ in range(number):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, prepare, arguments), daemon=True)
                process.start()
                theirs.close()  # or it would stay open when the worker is dead
                self._workers.append((process, ours))
                self._free.put((process, ours))

    def submit(self, item: Any) -> Future:
        """Have the next free worker compute an item; the result raises ``WorkerDied`` where it cannot answer."""
        return self._threads.submit(self._ask, item)

    def _ask(self, item: Any) -> Any:
        process, connection = worker = self._free.get()
        try:
            connection.send(item)
            is_done, answer = connection.recv()
        except (EOFError, OSError) as error:
            process.join(1)
            raise WorkerDied(process.exitcode) from error
        finally:
            self._free.put(worker)
        if not is_done:
            raise answer
        return answer

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process, _ in self._workers:
            process.kill()
        self._threads.shutdown()
        for process, connection in self._workers:
            process.join()
            connection.close()


def _serve(connection: Connection, prepare: Callable[..., Callable[[Any], Any]], arguments: tuple) -> None:
    """Answer (True, result) or (False, exception) to every item, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    work = prepare(*arguments)
    while True:
        try:
            item = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = True, work(item)
        except Exception as error:
            answer = False, error
        try:
            connection.send(answer)
        except OSError:
            return


@contextmanager
def _blocked_interrupts() -> Iterator[None]:
    """Hold back Ctrl-C; a worker started meanwhile never gets it, since it is the parent who ends the workers."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
