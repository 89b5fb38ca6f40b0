"""The versions of the catalog's schema, oldest first by number."""
