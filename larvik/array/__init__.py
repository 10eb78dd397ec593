"""The lazy array: what is recorded, how it is evaluated and how xarray sees it."""
