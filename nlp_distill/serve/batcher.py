"""Requests that arrive while the models are busy are answered together, in one batch."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from nlp_distill.runtime import Text

Answer = dict[str, Any]
Model = Callable[[Sequence[Text]], list[Answer]]


class Overloaded(Exception):
    """More texts wait than the models will get to in reasonable time."""


@dataclass(frozen=True)
class Reply:
    """What one request gets.

    Args:
        answers: of each model, in the order of the request's texts.
        seconds: that each model took for the batch of which this request was part.
        batch: texts in that batch, those of other requests included.
        waited: seconds from the request's arrival to the start of the batch.
    """

    answers: dict[str, list[Answer]]
    seconds: dict[str, float]
    batch: int
    waited: float


@dataclass(eq=False)
class _Request:
    texts: Sequence[Text]
    future: asyncio.Future[Reply]
    arrived: float = field(default_factory=time.perf_counter)


class Batcher:
    """Answers requests with one or more models in a thread of its own, as many requests at a time as fit a batch.

    The models take turns on a batch, and there is one batch at a time: two models that run side by side would make
    each other's times longer. An idle batcher starts at once (or after ``max_wait``); what arrives while it works
    makes up the next batch, first come, first served. Where a batch fails, its requests are answered one by one, so
    that only the one at fault gets the error.

    Args:
        models: each takes texts and returns an answer for each, in their order.
        max_batch: texts in a batch. A request is never divided; one with more texts is a batch of its own.
        max_wait: seconds that a request may wait for company when the models are idle.
        max_waiting: texts that may wait; further requests are refused.
    """

    def __init__(
        self, models: Mapping[str, Model], max_batch: int, max_wait: float = 0.0, max_waiting: int = 2048
    ):
        self.models = dict(models)
        self.max_batch, self.max_wait, self.max_waiting = max_batch, max_wait, max_waiting
        self._waiting: deque[_Request] = deque()
        self._arrived = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Texts that no batch has taken yet."""
        return sum(len(request.texts) for request in self._waiting)

    async def answer(self, texts: Sequence[Text]) -> Reply:
        """The models' answers, as soon as a batch with these texts is done.

        Raises:
            Overloaded: if too many texts wait already.
            Exception: what a model raised for these texts.
        """
        if self._waiting and self.waiting + len(texts) > self.max_waiting:
            raise Overloaded(f"{self.waiting} texts are waiting; try again in a moment")
        request = _Request(texts, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._arrived.set()
        return await request.future

    async def run(self) -> None:
        """Answer requests until cancelled; those without an answer then are cancelled as well."""
        taken: list[_Request] = []
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="models") as pool:
                while True:
                    await self._gather()
                    taken = self._take()
                    if not taken:  # all of them were given up
                        continue
                    outcomes = await asyncio.get_running_loop().run_in_executor(pool, self._answer, taken)
                    for request, outcome in zip(taken, outcomes, strict=True):
                        _settle(request.future, outcome)
        finally:
            for request in [*taken, *self._waiting]:
                request.future.cancel()  # which does nothing to one that is done

    async def _gather(self) -> None:
        """Wait for a request and, within ``max_wait`` of its arrival, for enough others to fill a batch."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        deadline = self._waiting[0].arrived + self.max_wait
        while self.waiting < self.max_batch and (left := deadline - time.perf_counter()) > 0:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                return

    def _take(self) -> list[_Request]:
        """The longest waiting requests, as many whole ones as fit a batch, at least one."""
        taken: list[_Request] = []
        size = 0
        while self._waiting and (not taken or size + len(self._waiting[0].texts) <= self.max_batch):
            request = self._waiting.popleft()
            if not request.future.done():  # else whoever asked has gone
                taken.append(request)
                size += len(request.texts)
        return taken

    def _answer(self, requests: Sequence[_Request]) -> list[Reply | Exception]:
        """A reply or an error for each request; runs in the models' thread."""
        try:
            return list(self._call(requests))
        except Exception as error:
            if len(requests) == 1:
                return [error]
            return [outcome for request in requests for outcome in self._answer([request])]

    def _call(self, requests: Sequence[_Request]) -> list[Reply]:
        texts = [text for request in requests for text in request.texts]
        began = time.perf_counter()
        answers, seconds = {}, {}
        for name, model in self.models.items():
            started = time.perf_counter()
            answers[name] = model(texts)
            seconds[name] = time.perf_counter() - started
            if len(answers[name]) != len(texts):
                raise RuntimeError(f"{name} gave {len(answers[name])} answers to {len(texts)} texts")
        replies, start = [], 0
        for request in requests:
            end = start + len(request.texts)
            own = {name: given[start:end] for name, given in answers.items()}
            replies.append(Reply(own, seconds, len(texts), began - request.arrived))
            start = end
        return replies


def _settle(future: asyncio.Future[Reply], outcome: Reply | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
