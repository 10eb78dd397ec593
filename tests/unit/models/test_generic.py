"""Classes for models that only the other side knows."""

import pickle

import pytest

from larvik import Representation
from larvik.errors import NotFoundError, UnsupportedError
from larvik.models import LarvikArray, Owned
from larvik.models import registry as known_here
from larvik.models.generic import model_class
from larvik.query.queryset import QuerySet
from larvik.query.special import ArrayQuerySet
from larvik.schema import FieldSpec, FieldType, ModelSpec, Registry, RelationSpec

COMMON = tuple(field for field in Owned.__dict__["_declared"])


@pytest.fixture
def server() -> Registry:
    """What a server knows: the models here, and two of a package that is not installed."""
    found = Registry()
    for spec in known_here:
        found.add(spec)
    sample = known_here.get("Sample")
    found.add(
        ModelSpec(
            name="Slide",
            table="lab_slide",
            fields=(*sample.fields, FieldSpec("label", FieldType.STRING)),
            relations=(RelationSpec("sample", "Sample", "slides"),),
            doc="A slide.",
            package="lab",
        )
    )
    image = known_here.get("Transformation")
    found.add(
        ModelSpec(
            name="Spectrum",
            table="lab_spectrum",
            fields=image.fields,
            relations=(),
            is_array=True,
            package="lab",
        )
    )
    return found


def test_a_model_that_is_imported_here_keeps_its_class(server: Registry) -> None:
    assert model_class("Representation", server) is Representation


def test_an_unknown_model_gets_a_class_with_the_columns_of_its_descriptor(server: Registry) -> None:
    slide = model_class("Slide", server)
    row = slide._from_values({"id": "x", "label": "A1", "sample_id": None, "name": "n"}, None)
    assert (row.label, row.sample, row.name) == ("A1", None, "n")  # type: ignore[attr-defined]
    assert (slide.__name__, issubclass(slide, Owned)) == ("Slide", True)
    assert model_class("Slide", server) is slide


def test_an_unknown_array_model_has_pixels_and_metadata(server: Registry) -> None:
    spectrum = model_class("Spectrum", server)
    assert issubclass(spectrum, LarvikArray)
    assert isinstance(spectrum.objects, ArrayQuerySet)


def test_generic_classes_are_not_taken_for_models_of_this_process(server: Registry) -> None:
    model_class("Slide", server)
    assert "Slide" not in known_here


def test_conditions_on_a_generic_class_know_its_columns(server: Registry) -> None:
    query = QuerySet.of(model_class("Slide", server)).filter(label__startswith="A")
    assert query.query.where[0].path == ("label",)  # type: ignore[union-attr]


def test_generic_rows_are_read_only(server: Registry) -> None:
    row = model_class("Slide", server)._from_values({"id": "x", "label": "A1"}, None)
    for write in (row.save, row.delete, row.restore, lambda: setattr(row, "label", "B")):
        with pytest.raises(UnsupportedError, match="install the package 'lab'"):
            write()


def test_generic_rows_survive_pickling(server: Registry) -> None:
    row = model_class("Slide", server)._from_values({"id": "x", "label": "A1"}, None)
    again = pickle.loads(pickle.dumps(row))
    assert (again, again.label) == (row, "A1")


def test_a_model_that_nobody_knows_suggests_the_nearest(server: Registry) -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'Slide'"):
        model_class("Slides", server)
