"""Score any number of files into one table: find them, read and score them in chunks, keep, merge."""
