"""Bytes: integers, messages, checksums and files, without knowing what they mean."""
