"""The little of `typing` that is needed while modules are being imported, without importing it.

`typing` takes as long to import as half of what `ckptool ls` needs of this package, and brings
`re`, which takes longer still. What `latest`, `ls` and `verify` import takes these names from
here. For what annotations alone speak of, and they are not evaluated, the real one is imported
below `if TYPE_CHECKING`. `dataclasses` is avoided there, too: it brings `inspect` and `re`.
"""

from __future__ import annotations

__all__ = ["TYPE_CHECKING", "Generic", "NamedTuple", "Protocol", "TypeVar", "cast"]

TYPE_CHECKING = False  # type checkers take this name for true

if TYPE_CHECKING:
    from typing import Generic, NamedTuple, Protocol, TypeVar, cast
else:
    from collections import namedtuple

    class _NamedTupleMaker(type):
        """Makes a class out of one that lists its fields, as `typing.NamedTuple` does."""

        def __new__(cls, name, bases, namespace):
            if not bases:
                return super().__new__(cls, name, bases, namespace)
            fields = namespace.get("__annotations__", {})
            defaults = [namespace.pop(field) for field in fields if field in namespace]
            made = namedtuple(name, fields, defaults=defaults, module=namespace.pop("__module__"))
            for attribute, value in namespace.items():
                setattr(made, attribute, value)
            return made

    class NamedTuple(metaclass=_NamedTupleMaker):
        """`typing.NamedTuple`, for classes without base classes of their own."""

    class Protocol:
        """`typing.Protocol`, for static checks alone."""

    class Generic:
        """`typing.Generic`, for static checks alone."""

        def __class_getitem__(cls, _parameters):
            return cls

    def TypeVar(name, **_bounds):  # noqa: N802 - it is called so
        """`typing.TypeVar`, for static checks alone."""
        return name

    def cast(_type, value):
        """The value, as it is."""
        return value
