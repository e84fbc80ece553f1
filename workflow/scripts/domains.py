"""TABLE EXPECTED: refuse a table whose domains are not as many as there are folds."""

import sys

import pandas as pd

path, expected = sys.argv[1:]
found = pd.read_csv(path)["domain"].nunique()
if found != int(expected):
    sys.exit(f"{path} has {found} domains, the configuration says {expected}: set domains: {found}")
