"""Unions of specs told apart by their ``kind``, for JSON and for pydantic, which this package never imports."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints


class ByKind:
    """Marks a union of specs: ``Annotated[First | Second, ByKind()]``; without a ``kind`` the first is meant.

    With it the configuration names the one spec that a key belongs to; a bare union would try them all and
    report the errors of each.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> dict[str, Any]:
        """Give pydantic a tagged union (its documented hook for the metadata of an annotation)."""
        members = members_by_kind(source)
        return {
            "type": "tagged-union",
            "discriminator": _kind_getter(next(iter(members))),
            "choices": {kind: handler.generate_schema(member) for kind, member in members.items()},
        }


def members_by_kind(union: Any) -> dict[str, Any]:
    """The specs of a union by their ``kind``, in the order written."""
    if get_origin(union) is Annotated:
        union = get_args(union)[0]
    return {get_args(get_type_hints(member)["kind"])[0]: member for member in get_args(union)}


def _kind_getter(default: str) -> Callable[[Any], Any]:
    def kind(value: Any) -> Any:
        return value.get("kind", default) if isinstance(value, Mapping) else getattr(value, "kind", None)

    return kind
