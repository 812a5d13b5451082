"""Alembic's environment and revisions of the store; `luthier.study.database` runs them when a database is
opened.
"""
