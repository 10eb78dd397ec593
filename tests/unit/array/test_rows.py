"""The arrays of stored rows: what the database says about them is what they carry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

import larvik
from larvik import Representation
from larvik.models import Channel


def test_a_renamed_channel_is_known_by_its_new_name(tmp_path: Path) -> None:
    image = xr.DataArray(np.zeros((2, 4, 4), "uint16"), dims=("c", "y", "x"), coords={"c": ["DAPI", "GFP"]})
    with larvik.connect(tmp_path / "data"):
        made = Representation.objects.from_xarray(image, name="image")
        channel = Channel.objects.get(object_id=made.id, index=1)
        channel.name = "Histone"
        channel.save()
        array = Representation.objects.get(id=made.id).array
        assert array.c.values.tolist() == ["DAPI", "Histone"]
        assert array.sel(c="Histone").biometa.channels["Name"].tolist() == ["Histone"]
