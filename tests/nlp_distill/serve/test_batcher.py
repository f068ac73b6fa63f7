"""The batcher: it groups what arrives meanwhile, keeps answers with their texts, and isolates errors."""

import asyncio
import random
import threading

import pytest

from nlp_distill.serve.batcher import Batcher, Overloaded


class Echo:
    """A model that answers with the text itself, and can be held while it works."""

    def __init__(self):
        self.calls, self.started, self.may_answer = [], threading.Event(), threading.Event()
        self.may_answer.set()

    def __call__(self, texts):
        self.calls.append(list(texts))
        self.started.set()
        assert self.may_answer.wait(30)
        if "bad" in texts:
            raise ValueError("a bad text")
        return [{"label": text} for text in texts]


def run(batcher, scenario):
    """Run ``scenario()`` while the batcher works."""

    async def both():
        working = asyncio.create_task(batcher.run())
        try:
            return await asyncio.wait_for(scenario(), 30)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    return asyncio.run(both())


async def ask_while_busy(batcher, model, requests):
    """The outcomes of ``requests``, which all arrive while the model works on another one."""
    model.may_answer.clear()
    first = asyncio.create_task(batcher.answer(["first"]))
    assert await asyncio.to_thread(model.started.wait, 30)
    others = [asyncio.create_task(batcher.answer(texts)) for texts in requests]
    await asyncio.sleep(0)  # so that they have arrived
    assert batcher.waiting == sum(map(len, requests))
    model.may_answer.set()
    await first
    return await asyncio.gather(*others, return_exceptions=True)


def labels(reply):
    return [answer["label"] for answer in reply.answers["student"]]


def test_requests_that_arrive_while_the_model_is_busy_are_one_batch():
    model = Echo()
    batcher = Batcher({"student": model}, max_batch=32)
    requests = [["a"], ["b", "c"], ["d"]]
    replies = run(batcher, lambda: ask_while_busy(batcher, model, requests))
    assert model.calls == [["first"], ["a", "b", "c", "d"]]
    assert [labels(reply) for reply in replies] == requests
    assert {reply.batch for reply in replies} == {4}
    assert all(reply.waited > 0 for reply in replies)


def test_a_batch_holds_whole_requests_up_to_its_size_first_come_first_served():
    model = Echo()
    batcher = Batcher({"student": model}, max_batch=4)
    requests = [["a", "b", "c"], ["d", "e"], ["f"], ["g", "h", "i", "j", "k", "l"], ["m"]]
    replies = run(batcher, lambda: ask_while_busy(batcher, model, requests))
    batches = [["a", "b", "c"], ["d", "e", "f"], requests[3], ["m"]]
    assert model.calls == [["first"], *batches]
    assert [labels(reply) for reply in replies] == requests


def test_an_error_reaches_only_the_request_at_fault():
    model = Echo()
    batcher = Batcher({"student": model}, max_batch=32)
    requests = [["a"], ["b", "bad"], ["c"]]
    one, other, three = run(batcher, lambda: ask_while_busy(batcher, model, requests))
    assert (labels(one), labels(three)) == (["a"], ["c"])
    assert isinstance(other, ValueError) and str(other) == "a bad text"
    assert model.calls[1:] == [["a", "b", "bad", "c"], ["a"], ["b", "bad"], ["c"]]


def test_the_batcher_goes_on_after_an_error():
    model = Echo()
    batcher = Batcher({"student": model}, max_batch=32)

    async def ask():
        with pytest.raises(ValueError, match="a bad text"):
            await batcher.answer(["bad"])
        return await batcher.answer(["good"])

    assert labels(run(batcher, ask)) == ["good"]


def test_a_model_that_loses_an_answer_is_an_error():
    batcher = Batcher({"student": lambda texts: [{"label": "x"}] * (len(texts) - 1)}, max_batch=32)
    with pytest.raises(RuntimeError, match="student gave 1 answers to 2 texts"):
        run(batcher, lambda: batcher.answer(["a", "b"]))


def test_every_request_gets_its_own_answers_whatever_the_sizes():
    source, model = random.Random(0), Echo()
    batcher = Batcher({"student": model}, max_batch=8)
    requests = [[f"{number}.{part}" for part in range(source.randint(1, 8))] for number in range(100)]

    async def ask(texts):
        await asyncio.sleep(source.random() / 50)
        return await batcher.answer(texts)

    async def ask_all():
        return await asyncio.gather(*(ask(texts) for texts in requests))

    replies = run(batcher, ask_all)
    assert [labels(reply) for reply in replies] == requests
    assert max(map(len, model.calls)) <= 8 and sum(map(len, model.calls)) == sum(map(len, requests))


def test_models_take_turns_on_the_same_texts():
    order = []
    models = {
        name: lambda texts, name=name: order.append((name, *texts)) or [{"by": name}] * len(texts)
        for name in ("student", "teacher")
    }
    batcher = Batcher(models, max_batch=4)
    reply = run(batcher, lambda: batcher.answer(["a", "b"]))
    assert order == [("student", "a", "b"), ("teacher", "a", "b")]
    assert reply.answers == {"student": [{"by": "student"}] * 2, "teacher": [{"by": "teacher"}] * 2}
    assert set(reply.seconds) == {"student", "teacher"} and min(reply.seconds.values()) >= 0


def test_an_idle_batcher_waits_for_company_only_as_long_as_it_was_told():
    model = Echo()
    batcher = Batcher({"student": model}, max_batch=2, max_wait=25.0)  # a full batch does not wait

    async def ask():
        first = asyncio.create_task(batcher.answer(["a"]))
        await asyncio.sleep(0.05)
        assert model.calls == []
        return await asyncio.gather(first, batcher.answer(["b"]))

    run(batcher, ask)
    assert model.calls == [["a", "b"]]
    alone = Batcher({"student": model}, max_batch=2, max_wait=0.05)
    reply = run(alone, lambda: alone.answer(["c"]))
    assert 0.05 <= reply.waited < 20


def test_without_a_wait_a_lone_request_is_answered_at_once():
    model = Echo()
    batcher = Batcher({"student": model}, max_batch=32)

    async def ask():
        return [await batcher.answer([text]) for text in "abc"]

    assert [reply.batch for reply in run(batcher, ask)] == [1, 1, 1]


def test_too_many_waiting_texts_are_refused_and_the_others_answered():
    model = Echo()
    batcher = Batcher({"student": model}, max_batch=2, max_waiting=3)
    requests = [["a", "b"], ["c"], ["d"]]

    async def ask():
        model.may_answer.clear()
        first = asyncio.create_task(batcher.answer(["first"]))
        assert await asyncio.to_thread(model.started.wait, 30)
        others = [asyncio.create_task(batcher.answer(texts)) for texts in requests]
        await asyncio.sleep(0)
        model.may_answer.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    *answered, refused = run(batcher, ask)
    assert [labels(reply) for reply in answered] == [["first"], ["a", "b"], ["c"]]
    assert isinstance(refused, Overloaded) and "3 texts are waiting" in str(refused)


def test_a_request_that_was_given_up_costs_nothing():
    model = Echo()
    batcher = Batcher({"student": model}, max_batch=32)

    async def ask():
        model.may_answer.clear()
        first = asyncio.create_task(batcher.answer(["first"]))
        assert await asyncio.to_thread(model.started.wait, 30)
        gone, stays = (asyncio.create_task(batcher.answer([text])) for text in ("gone", "stays"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        model.may_answer.set()
        await asyncio.gather(first, stays)

    run(batcher, ask)
    assert model.calls == [["first"], ["stays"]]


def test_who_still_waits_when_the_batcher_ends_is_cancelled():
    model = Echo()
    batcher = Batcher({"student": model}, max_batch=1)

    async def scenario():
        working = asyncio.create_task(batcher.run())
        model.may_answer.clear()
        asked = [asyncio.create_task(batcher.answer([text])) for text in "ab"]
        assert await asyncio.to_thread(model.started.wait, 30)
        working.cancel()
        model.may_answer.set()
        await asyncio.gather(working, return_exceptions=True)
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 30)

    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in asyncio.run(scenario()))
