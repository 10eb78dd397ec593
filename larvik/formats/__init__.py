"""Readers and writers of image files: one protocol, more readers by the entry point ``larvik.readers``."""
