"""Durable decisions to retire a session.

An intent is written to the state folder before anybody is told that a session is being retired. Whoever
is alive carries it out (the hub, the service, the idle service, the command line), as often as it takes,
until the engine says that the container is gone; only then is the intent removed.
"""
