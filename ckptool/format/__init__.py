"""File formats: what the bytes of each file of a checkpoint mean."""
