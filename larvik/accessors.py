"""Registers the DataArray accessors ``larvik``, ``biometa`` and ``viewer`` with xarray, once.

Imported where a DataArray of ours is first made, since xarray finds accessors by registration.
"""

from __future__ import annotations

import xarray as xr

from larvik.array.accessor import LarvikAccessor
from larvik.biometa.accessor import BiometaAccessor
from larvik.viewer.accessor import Viewer

xr.register_dataarray_accessor("larvik")(LarvikAccessor)
xr.register_dataarray_accessor("biometa")(BiometaAccessor)
xr.register_dataarray_accessor("viewer")(Viewer)
