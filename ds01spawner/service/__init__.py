"""The ``ds01`` hub-managed service: pages, REST API, builds, queue and accounting."""
