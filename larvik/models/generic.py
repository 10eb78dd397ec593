"""Classes for models that only the other side knows: made from a `ModelSpec`, read only."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn
from weakref import WeakKeyDictionary

from larvik.errors import UnsupportedError
from larvik.models.array import LarvikArray
from larvik.models.base import Model, ModelMeta, Owned, Part, classes, install
from larvik.schema import ModelSpec, Registry

_made: WeakKeyDictionary[Registry, dict[str, type[Model]]] = WeakKeyDictionary()


def model_class(name: str, registry: Registry) -> type[Model]:
    """Return the class of the model called `name`.

    The class of an imported package when it knows every column that `registry` tells of, else a
    generic read-only one, made from the descriptor once for each registry.

    Raises
    ------
    NotFoundError
        ``MODEL_UNKNOWN``; suggests the nearest name.
    """
    known = classes.get(name)
    spec = known._spec if known is not None and name not in registry else registry.get(name)
    if known is not None and known._spec.package == spec.package:
        return known
    made = _made.setdefault(registry, {})
    if name not in made or made[name]._spec != spec:
        made[name] = generic_class(spec)
    return made[name]


def generic_class(spec: ModelSpec) -> type[Model]:
    """Return a new read-only class with the columns and relations of `spec`."""
    base: type[Model] = Model
    if spec.is_array:
        base = LarvikArray
    elif spec.is_part:
        base = Part
    elif spec.column("deleted_at") is not None:
        base = Owned
    doc = f"{spec.doc or spec.name} (from {spec.package}, which is not installed here: read only.)"
    body: dict[str, Any] = {"__doc__": doc, "__module__": __name__, "__annotations__": {}}
    made: Any = ModelMeta(spec.name, (_ReadOnly, base), body, abstract=True)
    install(made, spec)
    return made  # type: ignore[no-any-return]  # built by hand, as the metaclass would


class _ReadOnly:
    """Refuses every write: the rules of the model live in a package that is not here."""

    _spec: ClassVar[ModelSpec]

    def _assign(self, name: str, value: object) -> NoReturn:
        raise UnsupportedError(
            f"{self._spec.name} is read only here: install the package {self._spec.package!r} to write it.",
            reason="MODEL_READ_ONLY",
            model=self._spec.name,
        )

    def save(self) -> NoReturn:
        """Refuse."""
        self._assign("id", None)

    def delete(self) -> NoReturn:
        """Refuse."""
        self._assign("id", None)

    def restore(self) -> NoReturn:
        """Refuse."""
        self._assign("id", None)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._spec, self.__getstate__())


def _rebuild(spec: ModelSpec, state: dict[str, Any]) -> Any:
    known = classes.get(spec.name)
    made: Any = known if known is not None and known._spec.package == spec.package else generic_class(spec)
    row = made.__new__(made)
    row.__setstate__(state)
    return row
