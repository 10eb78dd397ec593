"""The database: tables made from models, queries compiled to SQL, and the one way rows are written.

The only package that knows SQLAlchemy and ADBC. `open_database` of `larvik.db.engine` is the way in.
"""
