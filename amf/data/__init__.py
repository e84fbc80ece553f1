"""From published data sets to one patch table, packed patches and splits."""
