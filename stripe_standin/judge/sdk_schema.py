"""What Stripe may answer, as JSON Schema (2020-12), read from the annotations of the installed SDK.

The SDK's classes are generated from Stripe's own description of the API version that the SDK pins. So nothing is
copied here, and an upgrade of the SDK is an upgrade of the schema. How an annotation is understood:

    str, int, bool, Decimal        the JSON type of that name; a Decimal is sent as a string
    Optional[X]                    X, null, or not there: the SDK does not distinguish null from absent
    X                              must be there
    Union[Literal[...], str]       one of the values: the SDK allows future values, but a stand-in for one version
                                   has no others
    ExpandableField["Customer"]    an id, or the whole object
    an undeclared field            an error

The schema of a class is made at its first use, because making all 2,400 takes a second.
"""

import ast
import inspect
import pkgutil
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import cache
from importlib import import_module
from textwrap import shorten
from typing import Any, ClassVar, Literal, NamedTuple, get_args, get_origin

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from stripe._error_object import ErrorObject
from stripe._event import Event
from stripe._list_object import ListObject
from stripe._object_classes import OBJECT_CLASSES
from stripe._payment_intent import PaymentIntent
from stripe._search_result_object import SearchResultObject
from stripe._stripe_object import StripeObject, UntypedStripeObject

Schema = dict[str, Any]

_PLAIN: dict[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    Decimal: "string",
    type(None): "null",
}
_CHOICES = (typing.Union, types.UnionType)

_CODES = PaymentIntent.LastPaymentError.__annotations__["code"]

# From Stripe's documentation, where the annotations are open or wrong.
CORRECTIONS: dict[type, dict[str, Any]] = {
    # The four types stand in the field's docstring. The codes are declared where a PaymentIntent keeps its last error,
    # but for one (docs.stripe.com/changelog/endive/2026-09-30).
    ErrorObject: {
        "type": Literal["api_error", "card_error", "idempotency_error", "invalid_request_error"],
        "code": _CODES | Literal["payment_method_types_no_longer_supported"],
    },
    # Null on the last page; `url`, which the SDK reads itself, and `total_count` are not declared
    # (docs.stripe.com/search, pagination).
    SearchResultObject: {"next_page": str | None, "url": str, "total_count": int | None},
}


class Problem(NamedTuple):
    """A JSON pointer into a body, and what is wrong there."""

    pointer: str
    message: str


def problems(instance: Any, annotation: Any) -> list[Problem]:
    """What is wrong with decoded JSON for which the SDK declares `annotation`, such as Invoice or ListObject[Event]."""
    return [_problem(error) for error in _validator(annotation).iter_errors(instance)]


def schema_of(annotation: Any) -> Schema:
    """The schema for what the SDK declares as `annotation`. Raises TypeError if it cannot read the annotation.

    Keywords such as `items` bind only values of their own type. So a choice of types is one schema with the keywords
    of all, and an error names a field instead of a list of branches.
    """
    kinds = list(get_args(annotation)) if get_origin(annotation) in _CHOICES else [annotation]
    values = [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
    if values:
        kinds = [kind for kind in kinds if kind is not str and get_origin(kind) is not Literal] + [Literal[*values]]
    names: list[str] = []
    keywords: list[Schema] = []
    for kind in kinds:
        name, meant = _one(kind)
        names.append(name)
        keywords += [meant] if meant else []
    schema: Schema = {"type": list(dict.fromkeys(names))}
    schema |= keywords[0] if len(keywords) == 1 else {"anyOf": keywords} if keywords else {}
    if "enum" in schema and "null" in names:
        schema["enum"] = [*schema["enum"], None]
    return schema


def class_called(name: str) -> type[StripeObject]:
    """The class whose `object` is `name`, such as payment_intent. Raises KeyError."""
    module, cls = OBJECT_CLASSES[name]
    return pkgutil.resolve_name(f"{module}:{cls}")


@cache
def names_of(module: str) -> dict[str, Any]:
    """The classes that annotations in a module may name.

    Most are imported for a type checker only, so they are read from the module's text.
    """
    found = {}
    for node in ast.walk(ast.parse(inspect.getsource(sys.modules[module]))):
        if isinstance(node, ast.ImportFrom) and node.module and "params" not in node.module:
            for each in node.names:
                found[each.asname or each.name] = getattr(import_module(node.module), each.name)
    return found


@cache
def definition(name: str) -> Schema:
    """The schema of one class, `module:Class.Inner`. It binds objects only, and refers to other classes."""
    cls = pkgutil.resolve_name(name)
    whole = _fields(_annotations(cls))
    if cls is Event.Data:
        whole["properties"]["object"] = {"type": ["object"], "required": ["object"], "isWhatItSays": True}
    if "deleted" not in whole["properties"]:
        return whole
    # A deleted object shows nothing but that it was deleted.
    kept = {"id": str, "object": Literal[cls.OBJECT_NAME], "deleted": Literal[True]}
    del whole["properties"]["deleted"]
    return {"if": {"required": ["deleted"]}, "then": _fields(kept), "else": whole}


def document(annotations: Iterable[Any]) -> Schema:
    """The schema of one of these, with all that it refers to, as one standard document."""
    roots = [schema_of(annotation) for annotation in annotations]
    definitions: Schema = {}
    met = list(_references(roots))
    while met:
        name = met.pop()
        if name not in definitions:
            definitions[name] = definition(name)
            met += _references(definitions[name])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "anyOf": roots, "$defs": definitions}


def _one(kind: Any) -> tuple[str, Schema]:
    """A JSON type, with further keywords."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        return _PLAIN[kind], {}
    if origin is Literal:
        return _PLAIN[type(arguments[0])], {"enum": list(arguments)}
    if origin is list:
        return "array", {"items": schema_of(arguments[0])}
    if origin is UntypedStripeObject:  # metadata and the like: any names, values of one kind
        return "object", {} if arguments[0] is Any else {"additionalProperties": schema_of(arguments[0])}
    if origin in (ListObject, SearchResultObject):
        page = {name: each[arguments] if name == "data" else each for name, each in _annotations(origin).items()}
        return "object", _fields({**page, "object": Literal[origin.OBJECT_NAME]})
    if isinstance(kind, type) and issubclass(kind, StripeObject):
        return "object", {"$ref": f"#/$defs/{kind.__module__}:{kind.__qualname__}"}
    raise TypeError(f"no schema for {kind!r}")


def _fields(declared: dict[str, Any]) -> Schema:
    """An object with these fields and no others; those that are not Optional must be there."""
    return {
        "properties": {name: schema_of(each) for name, each in declared.items()},
        "required": [name for name, each in declared.items() if type(None) not in get_args(each)],
        "additionalProperties": False,
    }


def _annotations(cls: type) -> dict[str, Any]:
    """A class's fields by their names in JSON, each with its annotation."""
    hints = typing.get_type_hints(cls, localns=names_of(cls.__module__))
    renamed = getattr(cls, "_field_remappings", {})
    declared = {
        renamed.get(name, name): each
        for name, each in hints.items()
        if not name.startswith("_") and get_origin(each) is not ClassVar
    }
    return declared | CORRECTIONS.get(cls, {})


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].removeprefix("#/$defs/")
        schema = list(schema.values())
    if isinstance(schema, list):
        for each in schema:
            yield from _references(each)


def _follow(validator: Validator, reference: str, instance: Any, _: Schema) -> Iterator[ValidationError]:
    yield from validator.descend(instance, definition(reference.removeprefix("#/$defs/")))


def _is_what_it_says(validator: Validator, _: bool, instance: Any, __: Schema) -> Iterator[ValidationError]:
    """The object in an event: the SDK leaves it open, but it names its own class."""
    if not isinstance(instance, dict) or not isinstance(instance.get("object"), str):
        return
    if instance["object"] not in OBJECT_CLASSES:
        yield ValidationError(f"the SDK knows no object called {instance['object']!r}")
        return
    yield from validator.descend(instance, schema_of(class_called(instance["object"])))


def _properties(validator: Validator, declared: Schema, instance: Any, _: Schema) -> Iterator[ValidationError]:
    """As in the standard, but faster: most fields are null or of a plain type, and need no validator of their own."""
    if not isinstance(instance, dict):
        return
    for name, value in instance.items():
        schema = declared.get(name)
        if schema is None:
            continue
        kind = _PLAIN.get(type(value))
        if kind not in schema["type"] or (kind != "null" and len(schema) > 1):
            yield from validator.descend(value, schema, path=name, schema_path=name)


# A whole number has no point here: 5.0 comes from a wrong kind of division.
_TYPES = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, instance: type(instance) is int)
_KEYWORDS = {"$ref": _follow, "isWhatItSays": _is_what_it_says, "properties": _properties}
_Sdk = extend(Draft202012Validator, _KEYWORDS, type_checker=_TYPES)


@cache
def _validator(annotation: Any) -> Validator:
    return _Sdk(schema_of(annotation))


def _problem(error: ValidationError) -> Problem:
    reason = f"{error.instance!r} is no value the SDK knows" if error.validator == "enum" else error.message
    return Problem("".join(f"/{part}" for part in error.absolute_path), shorten(reason, 300))
