"""Larvik: images, experiments and analysis of a microscope lab.

Importing it loads the standard library alone; each name below is loaded when it is first used::

    import larvik
    from larvik import Representation

    larvik.connect("lab-data/")
    Representation.objects.filter(sample__experiment__name__startswith="Animal").first()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from larvik import errors as errors
    from larvik import models as models
    from larvik.array.options import set_options as set_options
    from larvik.connection import Connection as Connection
    from larvik.connection import connect as connect
    from larvik.connection import current as current
    from larvik.importing import import_file as import_file
    from larvik.importing import import_files as import_files
    from larvik.models import ROI as ROI
    from larvik.models import Animal as Animal
    from larvik.models import Antibody as Antibody
    from larvik.models import Channel as Channel
    from larvik.models import Detector as Detector
    from larvik.models import Experiment as Experiment
    from larvik.models import ExperimentalGroup as ExperimentalGroup
    from larvik.models import File as File
    from larvik.models import KeyValue as KeyValue
    from larvik.models import LarvikArray as LarvikArray
    from larvik.models import Model as Model
    from larvik.models import Objective as Objective
    from larvik.models import OriginalMetadata as OriginalMetadata
    from larvik.models import Owned as Owned
    from larvik.models import Plane as Plane
    from larvik.models import Representation as Representation
    from larvik.models import Sample as Sample
    from larvik.models import Scan as Scan
    from larvik.models import Series as Series
    from larvik.models import Subject as Subject
    from larvik.models import Table as Table
    from larvik.models import Tag as Tag
    from larvik.models import Team as Team
    from larvik.models import Transformation as Transformation
    from larvik.query.q import Q as Q
    from larvik.query.queryset import QuerySet as QuerySet

    Image = Representation

__version__ = "0.1.0"

_MODELS = (
    "ROI", "Animal", "Antibody", "Channel", "Detector", "Experiment", "ExperimentalGroup", "File",
    "KeyValue", "LarvikArray", "Model", "Objective", "OriginalMetadata", "Owned", "Plane",
    "Representation", "Sample", "Scan", "Series", "Subject", "Table", "Tag", "Team", "Transformation",
)  # fmt: skip

#: Where each public name lives: module, and the name there; None for a module itself.
_NAMES: dict[str, tuple[str, str | None]] = {
    **{name: ("larvik.models", name) for name in _MODELS},
    "Image": ("larvik.models", "Representation"),
    "Connection": ("larvik.connection", "Connection"),
    "Q": ("larvik.query.q", "Q"),
    "QuerySet": ("larvik.query.queryset", "QuerySet"),
    "connect": ("larvik.connection", "connect"),
    "current": ("larvik.connection", "current"),
    "errors": ("larvik.errors", None),
    "import_file": ("larvik.importing", "import_file"),
    "import_files": ("larvik.importing", "import_files"),
    "models": ("larvik.models", None),
    "set_options": ("larvik.array.options", "set_options"),
}

__all__ = [
    "ROI", "Animal", "Antibody", "Channel", "Connection", "Detector", "Experiment", "ExperimentalGroup",
    "File", "Image", "KeyValue", "LarvikArray", "Model", "Objective", "OriginalMetadata", "Owned",
    "Plane", "Q", "QuerySet", "Representation", "Sample", "Scan", "Series", "Subject", "Table", "Tag",
    "Team", "Transformation", "__version__", "connect", "current", "errors", "import_file", "import_files",
    "models", "set_options",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'larvik' has no attribute {name!r}")
    module, attribute = _NAMES[name]
    loaded = import_module(module)
    found = loaded if attribute is None else getattr(loaded, attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
