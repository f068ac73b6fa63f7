"""What may be asked: a request's bytes, read within limits, become texts, or an error that says what to do."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from nlp_distill.limits import check_whole
from nlp_distill.serve.batcher import Text

BODY_SECONDS = 20  # for a body to arrive
DISCARDED = 16 * 2**20  # bytes too many that are read and forgotten: who still sends would not see our answer


@dataclass(frozen=True)
class Limits:
    """What one request may hold.

    Args:
        max_batch: texts, and texts in a batch of several requests.
        max_text_chars: characters of a text.
        max_request_bytes: bytes of the body.

    Raises:
        InputError: for a limit below 1.
    """

    max_batch: int = 32
    max_text_chars: int = 10_000
    max_request_bytes: int = 2**20

    def __post_init__(self):
        for name in ("max_batch", "max_text_chars", "max_request_bytes"):
            check_whole(name, getattr(self, name), at_least=1)


async def read_texts(request: Request, limits: Limits, is_pair: bool | None) -> list[Text]:
    """The texts that a request asks about.

    Args:
        request: its body is ``{"texts": "one" | ["one", ...] | [["first", "second"], ...]}``.
        limits: of the body and the texts.
        is_pair: whether the models compare two texts; ``None`` where they answer both.

    Raises:
        HTTPException: 400, 408, 413, 415 or 422, with what to do.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "send JSON, with the header Content-Type: application/json")
    return check_texts(parse_json(await read_body(request, limits.max_request_bytes)), limits, is_pair)


async def read_body(request: Request, limit: int) -> bytes:
    """The body, unless it is larger than ``limit`` bytes or does not come.

    Raises:
        HTTPException: 400, 408 or 413.
    """
    size, parts = 0, []
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size <= limit:
                    parts.append(part)
                elif size > limit + DISCARDED:
                    break
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {BODY_SECONDS} seconds") from None
    except ClientDisconnect:
        raise HTTPException(400, "the connection ended before the body did") from None
    if size > limit:
        raise HTTPException(413, f"the body has more than {limit:,} bytes; send fewer texts at a time")
    return b"".join(parts)


def parse_json(body: bytes) -> Any:
    """The body's value.

    Raises:
        HTTPException: 400, for what is no JSON in UTF-8.
    """
    try:
        return json.loads(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise HTTPException(400, "the body is no UTF-8") from None
    except (ValueError, RecursionError):
        raise HTTPException(400, 'the body is no JSON; send {"texts": ["a text"]}') from None


def check_texts(content: Any, limits: Limits, is_pair: bool | None) -> list[Text]:
    """The texts of a parsed body. Messages say which text is wrong and never repeat it.

    Raises:
        HTTPException: 422.
    """
    if not isinstance(content, dict) or "texts" not in content:
        raise HTTPException(422, 'the body must be an object with the field texts: {"texts": ["a text"]}')
    if len(content) > 1:
        raise HTTPException(422, "the body has fields besides texts; leave them out")
    texts = content["texts"]
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list):
        raise HTTPException(422, "texts must be a text or a list of them")
    if not texts:
        raise HTTPException(422, "texts is empty; give at least one")
    if len(texts) > limits.max_batch:
        raise HTTPException(
            422, f"texts holds {len(texts):,}; at most {limits.max_batch:,} are answered at a time"
        )
    return [_check_text(text, f"texts[{index}]", limits, is_pair) for index, text in enumerate(texts)]


def _check_text(text: Any, where: str, limits: Limits, is_pair: bool | None) -> Text:
    if isinstance(text, str):
        if is_pair is True:
            raise HTTPException(
                422, f'{where} is one text, and this model compares two; give ["first", "second"]'
            )
        return _check_string(text, where, limits)
    if not isinstance(text, list) or len(text) != 2:
        allowed = {True: "a pair of strings", False: "a string", None: "a string or a pair of strings"}[
            is_pair
        ]
        raise HTTPException(422, f"{where} must be {allowed}")
    if is_pair is False:
        raise HTTPException(422, f"{where} is a pair, and this model reads one text")
    first, second = (_check_string(part, f"{where}[{side}]", limits) for side, part in enumerate(text))
    return first, second


def _check_string(text: Any, where: str, limits: Limits) -> str:
    if not isinstance(text, str):
        raise HTTPException(422, f"{where} must be a string")
    if len(text) > limits.max_text_chars:
        raise HTTPException(
            422, f"{where} has {len(text):,} characters; at most {limits.max_text_chars:,} are read"
        )
    if not text.strip():
        raise HTTPException(422, f"{where} is empty")
    if "\0" in text:
        raise HTTPException(422, f"{where} holds a NUL character; remove it")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # JSON can spell them, but they are no characters
        raise HTTPException(422, f"{where} holds half of a surrogate pair (\\ud800 to \\udfff)") from None
    return text
