"""Results as JSON text."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from itertools import islice

from ckptool.format.names import encode_name, is_unicode, printable

_ELEMENTS_AT_ONCE = 1024


def json_document(command: str, fields: Mapping[str, object]) -> Iterator[str]:
    """The pieces of one JSON document: the schema of `command`, then `fields` in their order.

    Values may be anything that `jsonable` takes. The elements of a list stand on a line
    each. An iterator is written as a list while it runs, in constant memory; should it
    fail, half a document is out.
    """
    yield f'{{\n"schema": "ckptool.{command}/1"'
    for key, value in jsonable_fields(fields.items()):
        yield f",\n{_dumps(key)}: "
        if isinstance(value, (list, Iterator)):
            yield from _json_list(value)
        else:
            yield _dumps(value)
    yield "\n}\n"


def _json_list(values: Iterable[object]) -> Iterator[str]:
    remaining, before = iter(values), "[\n"
    while chunk := list(islice(remaining, _ELEMENTS_AT_ONCE)):
        yield before + ",\n".join(_dumps(jsonable(value)) for value in chunk)
        before = ",\n"
    yield "[]" if before == "[\n" else "\n]"


def jsonable(value: object) -> object:
    """`value` as JSON can hold it.

    Non-finite floats become "NaN", "Infinity", "-Infinity"; complex numbers [re, im];
    bytes their text, or {"base64": ...} where they are no UTF-8; enum members their
    names; dataclasses, named tuples and mappings objects (see `jsonable_fields`); other
    sequences and sets lists. Iterators stay what they are.
    """
    # bool and IntEnum are ints too, so plain types are told by identity first.
    kind = type(value)
    if kind is int or kind is bool or value is None:
        return value
    if isinstance(value, str):
        return value if value.isascii() or is_unicode(value) else printable(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _non_finite(value)
    if isinstance(value, complex):
        return [jsonable(value.real), jsonable(value.imag)]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _json_bytes(bytes(value))
    if isinstance(value, Enum):
        return value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dict(
            jsonable_fields((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        )
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return dict(jsonable_fields(value.items()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(element) for element in value]
    return value


def jsonable_fields(fields: Iterable[tuple[str, object]]) -> Iterator[tuple[str, object]]:
    """The members of an object, made `jsonable`.

    Text that is not Unicode (a name or path with bytes that are no UTF-8) is escaped as
    it is printed, and its bytes follow in a member of the same name with `_base64`.
    """
    for key, value in fields:
        yield key if is_unicode(key) else printable(key), jsonable(value)
        if isinstance(value, str) and not is_unicode(value):
            yield f"{key}_base64", base64.b64encode(encode_name(value)).decode("ascii")


def _non_finite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _json_bytes(value: bytes) -> object:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False)
