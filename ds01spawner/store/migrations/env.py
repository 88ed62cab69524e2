"""Alembic's entry: runs on the connection it is given, inside the caller's transaction and lock."""

from alembic import context

from ds01spawner.store.models import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
context.run_migrations()
