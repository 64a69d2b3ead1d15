"""The demonstration: both directions alive, measured from outside, and both sides compared at the end."""
