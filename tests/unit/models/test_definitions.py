"""How a class body becomes a model, and what is refused at that moment."""

import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

import pytest

import larvik
from larvik.errors import InvalidArgumentError, NotFoundError
from larvik.models import Model, Owned, classes, field, registry, relation
from larvik.schema import FieldType, OnDelete

ROOT = Path(larvik.__file__).parents[1]


@pytest.fixture(autouse=True)
def known_models_only() -> Any:
    """Forget the models that a test defines."""
    before = dict(registry._models), dict(classes)
    yield
    registry._models, (classes_before) = before
    classes.clear()
    classes.update(classes_before)


def test_annotations_give_types_and_nullability() -> None:
    class Slide(Owned):
        label: str = field(max_length=20)
        thickness: float | None = field(default=None, unit="micrometer")
        sample: larvik.Sample | None = relation("Sample", reverse="slides", default=None)
        stains: tuple[str, ...] = ()
        cut_at: datetime | None = None
        notes: Optional[dict[str, Any]] = None  # noqa: UP045  # people write it

    spec = Slide._spec
    assert spec.field("thickness").nullable  # type: ignore[union-attr]
    assert spec.field("stains").type is FieldType.STRING_LIST  # type: ignore[union-attr]
    assert spec.relation("sample").on_delete is OnDelete.SET_NULL  # type: ignore[union-attr]
    assert spec.field("cut_at").type is FieldType.TIMESTAMP  # type: ignore[union-attr]
    assert (spec.field("notes").type, spec.field("notes").nullable) == (FieldType.JSON, True)  # type: ignore[union-attr]
    assert {"id", "owner_id", "team_id", "deleted_at", "sample_id"} <= {
        column.name for column in spec.columns()
    }
    assert registry.reverses("Sample")["slides"].column == "sample_id"
    assert larvik.Sample(name="s").slides.query.model == "Slide"  # type: ignore[attr-defined]


def test_a_required_relation_takes_its_rows_along() -> None:
    assert larvik.ROI._spec.relation("representation").on_delete is OnDelete.CASCADE  # type: ignore[union-attr]
    assert larvik.ExperimentalGroup._spec.relation("experiment").on_delete is OnDelete.CASCADE  # type: ignore[union-attr]


def test_a_reverse_name_that_two_models_want_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"Representation\.sample has already"):

        class Other(Model):
            sample: larvik.Sample | None = relation("Sample", reverse="representations", default=None)


def test_a_type_that_no_database_column_has_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"Odd\.when: 'complex' is not a field type"):

        class Odd(Model):
            when: complex = field()


def test_an_unknown_model_suggests_the_nearest() -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'Representation'"):
        registry.get("Represntation")


def test_the_page_of_models_says_what_the_classes_say() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "larvik.models.docs"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert made == (ROOT / "docs" / "models.md").read_text()


def test_importing_larvik_and_its_models_loads_the_standard_library_alone() -> None:
    code = "import sys, larvik; larvik.Sample.objects.filter(name='x'); larvik.connect; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"numpy", "pandas", "xarray", "pyarrow", "zarr", "dask", "sqlalchemy", "grpc", "google.protobuf"}
    assert not heavy & set(loaded)


def test_every_public_name_is_listed_and_there() -> None:
    assert set(larvik.__all__) - {"__version__"} == set(larvik._NAMES)
    assert set(larvik.__all__) <= set(dir(larvik))
    assert larvik.Image is larvik.Representation
    with pytest.raises(AttributeError, match="Representaton"):
        larvik.Representaton  # noqa: B018
