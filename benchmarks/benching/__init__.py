"""The suite that ./bench runs: what the tracer and its peers cost, and how wrong they are."""
