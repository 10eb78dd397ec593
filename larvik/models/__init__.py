"""The models of an experiment and its images; importing them loads the standard library alone."""

from larvik.models.annotation import KeyValue, Tag
from larvik.models.array import LarvikArray, Representation, Transformation
from larvik.models.base import Model, Owned, Part, Related, classes, field, registry, relation
from larvik.models.biometa import Channel, Detector, Objective, OriginalMetadata, Plane, Scan
from larvik.models.experiment import Animal, Antibody, Experiment, ExperimentalGroup, Sample
from larvik.models.identity import Subject, Team
from larvik.models.roi import ROI
from larvik.models.series import File, Series
from larvik.models.table import Table

__all__ = [
    "ROI", "Animal", "Antibody", "Channel", "Detector", "Experiment", "ExperimentalGroup", "File",
    "KeyValue", "LarvikArray", "Model", "Objective", "OriginalMetadata", "Owned", "Part", "Plane", "Related",
    "Representation", "Sample", "Scan", "Series", "Subject", "Table", "Tag", "Team", "Transformation",
    "classes", "field", "registry", "relation",
]  # fmt: skip
