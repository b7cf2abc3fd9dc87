"""Studies: YAML text becomes experiments, in the order they are measured in."""
