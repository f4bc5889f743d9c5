"""Rows for load tests: a large organization, made straight in the database (manage.py seed_load)."""
