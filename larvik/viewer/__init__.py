"""Pictures of arrays: figures, thumbnails, and cards for notebooks."""
