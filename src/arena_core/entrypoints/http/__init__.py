"""The HTTP API: one module per resource, one table of endpoints, one of errors."""
