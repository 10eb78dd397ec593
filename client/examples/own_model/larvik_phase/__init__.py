"""An array model of one's own: phase stacks of a label-free microscope.

Name the package in the setting ``models`` (``LARVIK_MODELS=larvik_phase``), run
``larvik migrate``, and the model is there in queries, Flight listings and descriptors.
"""

from __future__ import annotations

from larvik.models import LarvikArray, Sample, field, relation


class PhaseStack(LarvikArray):
    """Quantitative phase images at several illumination angles; dims (angle, y, x)."""

    wavelength_nm: float = field(unit="nanometer", doc="Wavelength of the illumination.")
    operator: str | None = field(default=None, max_length=200, doc="Who sat at the microscope.")
    sample: Sample | None = relation("Sample", reverse="phase_stacks", default=None, doc="What it shows.")
