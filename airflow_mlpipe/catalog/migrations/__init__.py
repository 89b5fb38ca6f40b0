"""Alembic's environment and the versions of the catalog's schema."""
