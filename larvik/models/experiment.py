"""What was studied: Experiment, ExperimentalGroup, Animal, Antibody, Sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from larvik.models.base import Owned, Related, field, relation
from larvik.schema import OnDelete

if TYPE_CHECKING:
    from larvik.models.array import Representation
    from larvik.models.roi import ROI


class Experiment(Owned, indexes=(("name", "id"),)):
    """A study: the outermost container, whose members share rights."""

    name: str = field(max_length=400, doc="Name of the experiment.")
    description: str = field(default="", max_length=100_000, doc="What is asked, in plain text.")
    linked_paper: str | None = field(default=None, max_length=2000, doc="URL or DOI of a publication.")

    groups: ClassVar[Related[ExperimentalGroup]] = Related("groups")
    animals: ClassVar[Related[Animal]] = Related("animals")
    samples: ClassVar[Related[Sample]] = Related("samples")


class ExperimentalGroup(Owned, indexes=(("name", "id"),)):
    """The animals or samples that were treated alike."""

    name: str = field(max_length=400, doc="Name of the group.")
    description: str = field(default="", max_length=100_000, doc="How the group was treated.")
    is_control: bool = field(default=False, doc="Whether this is a control group.")
    experiment: Experiment = relation("Experiment", reverse="groups", doc="Experiment of the group.")

    animals: ClassVar[Related[Animal]] = Related("animals")
    samples: ClassVar[Related[Sample]] = Related("samples")
    rois: ClassVar[Related[ROI]] = Related("rois")


class Animal(Owned, indexes=(("name", "id"),)):
    """An animal that samples were taken from."""

    name: str = field(max_length=400, doc="Name or number of the animal.")
    species: str | None = field(default=None, max_length=400, doc="Species or strain.")
    sex: str | None = field(default=None, choices=("female", "male", "unknown"), doc="Sex of the animal.")
    age_days: float | None = field(default=None, unit="day", doc="Age when sampled.")
    experiment: Experiment | None = relation(
        "Experiment", reverse="animals", default=None, doc="Its experiment."
    )
    group: ExperimentalGroup | None = relation(
        "ExperimentalGroup", reverse="animals", default=None, doc="Its group."
    )

    samples: ClassVar[Related[Sample]] = Related("samples")


class Antibody(Owned, indexes=(("name", "id"),)):
    """An antibody used for staining; channels of biometa refer to it by name."""

    name: str = field(max_length=400, doc="Name of the antibody.")
    target: str | None = field(default=None, max_length=400, doc="Protein that it binds.")
    host: str | None = field(default=None, max_length=400, doc="Species that it was raised in.")
    clone: str | None = field(default=None, max_length=400, doc="Clone.")
    catalog_number: str | None = field(default=None, max_length=400, doc="Maker's number.")
    fluorophore: str | None = field(default=None, max_length=400, doc="Dye bound to it.")
    experiment: Experiment | None = relation(
        "Experiment", reverse="antibodies", default=None, doc="Experiment that it was used in."
    )


class Sample(Owned, indexes=(("name", "id"), ("experiment_id", "id"))):
    """One specimen on the microscope; its images are representations."""

    name: str = field(max_length=400, doc="Name of the sample.")
    description: str = field(default="", max_length=100_000, doc="Preparation, in plain text.")
    experiment: Experiment | None = relation(
        "Experiment", reverse="samples", default=None, doc="Its experiment."
    )
    group: ExperimentalGroup | None = relation(
        "ExperimentalGroup", reverse="samples", default=None, doc="Its group."
    )
    animal: Animal | None = relation(
        "Animal", reverse="samples", default=None, on_delete=OnDelete.SET_NULL, doc="Where it was taken from."
    )

    representations: ClassVar[Related[Representation]] = Related("representations")
