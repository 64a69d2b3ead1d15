"""The REST resources, one module each: a call and the world in, an answer out."""
