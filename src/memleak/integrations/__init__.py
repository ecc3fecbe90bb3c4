"""Labels for what others' code does: statements of databases, routes of web applications.

Nothing here is imported unless asked for, and nothing it knows of is needed: each module works on what it is given.
docs/reference/labels.md shows how each is switched on.
"""
