"""The edges: one folder for each far system, each of which translates its errors once."""
