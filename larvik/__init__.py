"""Larvik: images, experiments and analysis of a microscope lab."""
