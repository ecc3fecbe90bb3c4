"""How right and how fast addresses get their names, beside the tools that are installed."""
