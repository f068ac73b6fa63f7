"""The service described as an OpenAPI 3.1 document."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from nlp_distill.serve.models import Served
from nlp_distill.serve.requests import Limits

JsonObject = dict[str, Any]

REFUSALS = {
    400: "The body is no JSON in UTF-8, or did not arrive whole.",
    408: "The body did not arrive in time.",
    413: "The body has too many bytes.",
    415: "The header Content-Type is not application/json.",
    422: "The body is no object with texts, or a text is empty, too long, of the wrong type, or no Unicode.",
    500: "The model failed on this request.",
    503: "Too many texts wait; try again after the seconds that Retry-After gives.",
}


def describe_api(models: Mapping[str, Served], limits: Limits, is_pair: bool | None) -> JsonObject:
    """The document, with this service's models, limits and kind of texts.

    Args:
        models: by their name in the answers.
        limits: of a request.
        is_pair: whether the models compare two texts; ``None`` where they answer both.
    """
    several = " and of the teacher" if "teacher" in models else ""
    example = ["a first text", "a second text"] if is_pair else "what a lovely day"
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Try it: " + " and ".join(models),
            "version": version("nlp_distill"),
            "description": _describe_models(models),
        },
        "paths": {
            "/predict": {
                "post": {
                    "summary": f"The answers of the student{several} to one or more texts",
                    "description": "Requests that arrive while the models are busy are answered in one batch.",
                    "requestBody": {
                        "required": True,
                        "content": {
                            "application/json": {
                                "schema": {"$ref": "#/components/schemas/Question"},
                                "example": {"texts": [example]},
                            }
                        },
                    },
                    "responses": {
                        "200": _answer("An answer for each text, in their order.", "Reply"),
                        **{str(status): _answer(text, "Error") for status, text in REFUSALS.items()},
                    },
                }
            },
            "/health": {
                "get": _page("Whether the service answers, and with which models", "application/json")
            },
            "/openapi.json": {"get": _page("This document", "application/json")},
            "/docs": {"get": _page("This document for people", "text/html")},
            "/": {"get": _page("The page to try the models", "text/html")},
        },
        "components": {"schemas": describe_schemas(models, limits, is_pair)},
    }


def describe_schemas(models: Mapping[str, Served], limits: Limits, is_pair: bool | None) -> JsonObject:
    """What goes in and what comes out."""
    string = {"type": "string", "minLength": 1, "maxLength": limits.max_text_chars}
    pair = {"type": "array", "items": string, "minItems": 2, "maxItems": 2}
    text = {True: pair, False: string, None: {"oneOf": [string, pair]}}[is_pair]
    many = {"type": "array", "items": text, "minItems": 1, "maxItems": limits.max_batch}
    return {
        "Question": {
            "description": f"At most {limits.max_request_bytes:,} bytes.",
            **_object({"texts": many if is_pair else {"oneOf": [string, many]}}),
        },
        "Reply": _object(
            {
                **{name: _describe_answers(model) for name, model in models.items()},
                "batch": {"type": "integer", "description": "Texts answered together, others' included."},
                "waited_ms": {
                    "type": "number",
                    "description": "Milliseconds before that batch began, while others were answered.",
                },
            }
        ),
        "Error": _object({"error": {"type": "string", "description": "What is wrong and what to do."}}),
    }


def _describe_answers(model: Served) -> JsonObject:
    if model.labels:
        share = {"type": "number", "minimum": 0, "maximum": 1}
        answer = _object(
            {
                "label": {"enum": list(model.labels)},
                "score": share,
                "probabilities": _object(dict.fromkeys(model.labels, share)),
            }
        )
    else:
        answer = _object({"value": {"type": "number"}})
    milliseconds = {
        "type": "number",
        "description": "The model's time for the batch, tokenisation included.",
    }
    return _object({"answers": {"type": "array", "items": answer}, "ms": milliseconds})


def _describe_models(models: Mapping[str, Served]) -> str:
    said = []
    for name, model in models.items():
        about = model.describe()
        labels = f"labels {', '.join(model.labels)}" if model.labels else "a regression"
        said.append(
            f"{name}: {model.name}, {labels}; reads {about['reads']} of up to {model.max_length} tokens."
        )
    if any(model.describe()["quantize"] == "int8-dynamic" for model in models.values()):
        said.append(
            "int8-dynamic scales activations by what is in the batch, so probabilities can move a little with what "
            "is answered together; --max-batch 1 prevents it."
        )
    return " ".join(said)


def _object(properties: Mapping[str, Any]) -> JsonObject:
    return {
        "type": "object",
        "required": list(properties),
        "properties": dict(properties),
        "additionalProperties": False,
    }


def _answer(text: str, schema: str) -> JsonObject:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": text, "content": content}


def _page(summary: str, kind: str) -> JsonObject:
    return {"summary": summary, "responses": {"200": {"description": summary, "content": {kind: {}}}}}
