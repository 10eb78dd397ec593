"""What Larvik is measured beside: each module reads the same pixels through one system.

A module has a ``Reader``, made in a client process (see ``worker.py``), and a ``Server`` where the system
needs one. Some live in an environment of their own (``.tools/peers``), so the top of a module imports nothing
that is Larvik's.
"""
