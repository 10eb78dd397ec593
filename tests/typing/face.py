"""What type checkers know about rows and queries. Checked, never run."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, assert_type

import larvik
from larvik import ROI, Experiment, LarvikArray, Q, Representation, Sample, Table
from larvik.connection import Connection
from larvik.models import Related, field, relation
from larvik.query.queryset import QuerySet
from larvik.query.special import ArrayQuerySet, KeyValueQuerySet, TableQuerySet, TagQuerySet


class Spectrum(LarvikArray):
    """A model of a user's own package."""

    sample: Sample | None = relation("Sample", reverse="spectra", default=None)
    exposure: float = field(default=1.0, unit="second")
    derived: ClassVar[Related[Representation]] = Related("derived")


def reading(connection: Connection) -> None:
    found = Representation.objects.filter(Q(type="initial") | ~Q(name="x"), sample__experiment__name="A")
    assert_type(found, ArrayQuerySet[Representation])
    assert_type(found.order_by("-name")[:5].first(), Representation | None)
    assert_type(found.get(name="x"), Representation)
    assert_type(found[0], Representation)
    assert_type(found.using(connection).exclude(name="x").all(), ArrayQuerySet[Representation])
    assert_type(found.count(), int)
    assert_type(list(found), list[Representation])
    assert_type(found.in_bulk(["x"]), dict[str, Representation])
    assert_type(Sample.objects.filter(name="x").first(), Sample | None)
    assert_type(Table.objects.filter(name="x"), TableQuerySet[Table])
    for row in found:
        assert_type(row.name, str)
        assert_type(row.shape, tuple[int, ...])
        assert_type(row.created_at, datetime)
        if row.sample is not None and row.sample.experiment is not None:
            assert_type(row.sample.experiment.name, str)


def relations(sample: Sample, image: Representation, roi: ROI) -> None:
    assert_type(sample.representations, ArrayQuerySet[Representation])
    assert_type(sample.representations.first(), Representation | None)
    assert_type(image.rois, QuerySet[ROI])
    assert_type(roi.representation.parent, Representation | None)
    assert_type(sample.tags, TagQuerySet)
    assert_type(sample.key_values, KeyValueQuerySet)


def writing() -> None:
    experiment = Experiment(name="e")
    sample = Sample(name="s", experiment=experiment)
    sample.name = "t"
    assert_type(Sample.objects.create(name="s"), Sample)
    assert_type(Sample.objects.get_or_create(name="s"), tuple[Sample, bool])
    assert_type(Sample.objects.bulk_create([sample]), list[Sample])
    assert_type(Representation.objects.from_xarray([[1, 2]], name="x"), Representation)
    assert_type(larvik.Image.objects.first(), Representation | None)


def models_of_users(connection: Connection) -> None:
    assert_type(Spectrum.objects.filter(exposure__gt=1).first(), Spectrum | None)
    assert_type(Spectrum(name="s").exposure, float)
    assert_type(larvik.connect("folder"), Connection)


def mistakes(sample: Sample) -> None:
    Sample(nmae="x")  # type: ignore[call-arg]
    Sample(name=3)  # type: ignore[arg-type]
    Sample()  # type: ignore[call-arg]
    Sample(name="s", experiment=Sample(name="t"))  # type: ignore[arg-type]
    Sample(name="s", revision=3)  # type: ignore[call-arg]
    sample.name = 3  # type: ignore[assignment]
    sample.nmae = "x"  # type: ignore[attr-defined]
    print(Sample.objects.first().name)  # type: ignore[union-attr]
    Sample.objects.stack("x")  # type: ignore[attr-defined]
