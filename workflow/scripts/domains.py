"""Refuse a table whose domains are not as many as the configuration has folds for."""

import pandas as pd

found, expected = pd.read_csv(snakemake.input[0])["domain"].nunique(), snakemake.config["domains"]
if found != expected:
    raise SystemExit(
        f"{snakemake.input[0]} has {found} domains, the configuration says {expected}: set domains: {found}"
    )
