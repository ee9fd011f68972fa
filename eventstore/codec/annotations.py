"""What a class's annotations say, whether Python evaluates them, keeps them as strings, or evaluates them on demand.

Before Python 3.14, a class body evaluates its annotations or, under ``from __future__ import annotations``, keeps them
as strings. Since 3.14 (PEP 649, PEP 749) they are evaluated when somebody asks, and a name may still be undefined then.
"""

from __future__ import annotations

import ast
import enum
import re
import sys
import types
import typing
from types import SimpleNamespace
from typing import Any, ClassVar, ForwardRef, cast, get_args, get_origin

from eventstore.signals import raised_by_a_signal

if sys.version_info >= (3, 14):
    import annotationlib

    def own_annotations(cls: type) -> dict[str, Any]:
        """Return the annotations of a class's own body by name, without those of its bases.

        A value is what the annotation evaluates to. It is a string or contains ForwardRefs where a name is undefined.
        """
        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)

    def add_annotations(cls: type, added: dict[str, Any]) -> None:
        """Put annotations before a class's own ones, which stay as lazy as they are."""
        annotate = cls.__annotate__
        if annotate is None:
            cls.__annotations__ = added | own_annotations(cls)
            return

        def annotate_more(asked: annotationlib.Format, /) -> dict[str, Any]:
            own = annotationlib.call_annotate_function(annotate, asked, owner=cls)
            before = annotationlib.annotations_to_string(added) if asked == annotationlib.Format.STRING else added
            return before | own

        cls.__annotate__ = annotate_more

else:

    def own_annotations(cls: type) -> dict[str, Any]:
        """Return the annotations of a class's own body by name, without those of its bases.

        A value is what the annotation evaluated to; a string where it was not evaluated.
        """
        return dict(cls.__dict__.get("__annotations__", {}))

    def add_annotations(cls: type, added: dict[str, Any]) -> None:
        """Put annotations before a class's own ones."""
        cls.__annotations__ = added | own_annotations(cls)


def is_class_variable(annotation: Any) -> bool:
    """Whether an annotation says ``ClassVar``, in whichever form it is."""
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        return re.match(r"['\"]?(\w+\.)*ClassVar\b", annotation) is not None  # Strings quote what is quoted once more.
    return annotation is ClassVar or get_origin(annotation) is ClassVar


def resolved(cls: type, annotation: Any, *, include_extras: bool = False) -> Any:
    """Return what an annotation of a class's own body means. Raises whatever an unknown name in it raises.

    ``include_extras`` keeps what Annotated adds.
    """
    # A field may have the name of its type (`date: date | None = None`), so only the classes in the body count.
    inner = {name: value for name, value in vars(cls).items() if isinstance(value, type)}
    namespace = vars(sys.modules.get(cls.__module__, SimpleNamespace())) | inner
    holder = SimpleNamespace(__annotations__={"it": annotation})
    return typing.get_type_hints(holder, namespace, include_extras=include_extras)["it"]


def described(cls: type, annotation: Any) -> str:
    """Return an annotation of a class's own body as text that is the same on every Python, in whichever form it was.

    Classes appear under their names without their modules, as a string may not say more: ``uuid.UUID`` is ``UUID``.
    """
    try:
        annotation = resolved(cls, annotation)
    except Exception as error:  # an annotation is any expression, and its names may exist for type checkers only
        if raised_by_a_signal(error):
            raise
        return _text(annotation, ())
    return _text(annotation, ())


def _text(annotation: Any, aliases: tuple[object, ...]) -> str:
    """The text of an evaluated annotation; ``aliases`` are those that it stands in, as an alias may name itself."""
    if isinstance(annotation, (str, ForwardRef)):
        return _source_text(annotation if isinstance(annotation, str) else annotation.__forward_arg__)
    if hasattr(annotation, "__value__") and annotation not in aliases:  # `type Money = Decimal`
        return _text(annotation.__value__, (*aliases, annotation))
    origin = get_origin(annotation)
    if origin is typing.Annotated:
        return _text(get_args(annotation)[0], aliases)
    name, parts = _name_and_parts(annotation, origin)
    texts = [_literal(part) if origin is typing.Literal else _text(part, aliases) for part in parts]
    if origin in {typing.Union, types.UnionType}:
        return " | ".join(texts)
    return f"{name}[{', '.join(texts)}]" if texts else name


def _name_and_parts(annotation: Any, origin: Any) -> tuple[str, list[Any]]:
    if annotation is Ellipsis:
        return "...", []
    if annotation is None or annotation is type(None):
        return "None", []
    if isinstance(annotation, list):  # The parameters of a Callable.
        return "", cast("list[Any]", annotation)
    names = (getattr(annotation, "_name", None), getattr(origin or annotation, "__name__", None))
    name = next((name for name in names if isinstance(name, str)), str(annotation))
    return name, list(get_args(annotation))


def _literal(value: Any) -> str:
    return f"{type(value).__name__}.{value.name}" if isinstance(value, enum.Enum) else repr(value)


def _source_text(source: str) -> str:
    """The text of an annotation that can't be evaluated, out of its source."""
    try:
        return _node_text(ast.parse(source.strip(), mode="eval").body)
    except SyntaxError:
        return source


def _node_text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(quoted)):
            return _source_text(quoted)
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return f"{_node_text(left)} | {_node_text(right)}"
        case ast.Subscript(value=generic, slice=inner):
            return _subscript_text(_node_text(generic), inner)
        case ast.List(elts=parts):
            return f"[{', '.join(map(_node_text, parts))}]"
        case _:
            return ast.unparse(node)


def _subscript_text(name: str, inner: ast.expr) -> str:
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    match name:
        case "Literal":
            return f"Literal[{', '.join(map(_literal_node_text, parts))}]"
        case "Annotated":
            return _node_text(parts[0])
        case "Optional":
            return f"{_node_text(parts[0])} | None"
        case "Union":
            return " | ".join(map(_node_text, parts))
        case _:
            return f"{name}[{', '.join(map(_node_text, parts))}]"


def _literal_node_text(node: ast.expr) -> str:
    return f"{_node_text(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ast.unparse(node)
