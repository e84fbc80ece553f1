"""`amf job`: a folder of patches → a job as the platform hands it to the container."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from amf.files import folder_to_write


def run(
    folder: Annotated[Path, Argument(help="folder of patches (PNG, …), 128 x 128 px each")],
    out: Annotated[
        Path,
        Option(parser=folder_to_write, metavar="DIR", help="folder for inputs.json, the stack and pages.csv"),
    ],
) -> None:
    """Write the patches as one stack in the order of their names, with a list of page and file."""
    from amf.bulk.items import find_items
    from amf.bulk.job_folder import write_job

    pages = write_job(find_items([str(folder)]), out)
    print(f"wrote {out} with a stack of {pages} pages; {out / 'pages.csv'} names the file of each")
