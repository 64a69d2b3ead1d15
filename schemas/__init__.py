"""The vocabulary: types that cross a boundary. No I/O, no framework."""
