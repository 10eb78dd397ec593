from __future__ import annotations

import pytest

from larvik.errors import InvalidArgumentError
from larvik.ids import new_id
from larvik.storage import array_location, delete_array, list_arrays, stored_bytes
from larvik.testing.arrays import make_spec, random_array, write_array


def test_arrays_partial_ones_and_partial_files_are_found(store):
    whole, half = new_id(), new_id()
    size = write_array(
        store, array_location(whole), random_array((4, 4), "uint8"), make_spec((4, 4), "yx", "uint8")
    )
    store.write(f"{array_location(half)}/0/c/0/0", b"12345")
    store.write(f"{array_location(half)}/0/c/0/1.abc.partial", b"12")
    store.write("arrays/notes.txt", b"not an array")
    found = {array.array_id: array for array in list_arrays(store)}
    assert set(found) == {whole, half}
    assert found[whole].size_bytes == size == stored_bytes(store, array_location(whole))
    assert found[half].size_bytes == 7
    assert found[half].partial == (f"{array_location(half)}/0/c/0/1.abc.partial",)
    assert found[half].modified > 1.7e9


def test_deleting_an_array_frees_its_bytes_and_nothing_else(store):
    first, second = new_id(), new_id()
    for array_id in (first, second):
        write_array(
            store, array_location(array_id), random_array((4, 4), "uint8"), make_spec((4, 4), "yx", "uint8")
        )
    size = stored_bytes(store, array_location(first))
    assert delete_array(store, array_location(first)) == size
    assert [array.array_id for array in list_arrays(store)] == [second]
    assert delete_array(store, array_location(first)) == 0


@pytest.mark.parametrize(
    "location", ["", "arrays", "arrays/01", "data/01/a.ome.zarr", "arrays/01/a", "arrays/a/b/c.ome.zarr"]
)
def test_only_an_array_of_ours_can_be_deleted(store, location):
    with pytest.raises(InvalidArgumentError):
        delete_array(store, location)


def test_locations_spread_over_the_random_end_of_ids():
    assert array_location("0192f0c1-0000-7000-8000-00000000ab3f") == (
        "arrays/3f/0192f0c1-0000-7000-8000-00000000ab3f.ome.zarr"
    )
