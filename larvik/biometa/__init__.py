"""biometa: OME metadata of arrays as tables, from OME-XML and back, following the pixels."""
