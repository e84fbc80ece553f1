"""One reader per published data set, each returning rows of the patch table."""
