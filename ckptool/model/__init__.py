"""What callers hold: readers, and the ways to find what they read."""
