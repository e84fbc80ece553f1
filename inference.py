"""The container's entry: one Grand Challenge job per start, with the platform's paths as defaults."""

import argparse
import os
import sys
from pathlib import Path

from amf.errors import AmfError
from amf.model import digest

PLATFORM_MODEL = Path("/opt/ml/model")
"""Where the platform unpacks a model tarball; a bundle there wins over the built-in one."""


def main() -> int:
    """Run the job; 0 done, 2 not a valid job, 3 no usable bundle, 1 a bug."""
    parser = argparse.ArgumentParser(description="Score a stack of mitotic figures: normal or atypical.")
    parser.add_argument("--input", type=Path, default=Path("/input"), help="folder with inputs.json")
    parser.add_argument("--output", type=Path, default=Path("/output"), help="existing folder for the answer")
    parser.add_argument(
        "--model", type=Path, help="bundle folder; default: /opt/ml/model if it is one, else ours"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    arguments = parser.parse_args()

    built_in = Path(__file__).resolve().parent / "model"
    model = arguments.model or (PLATFORM_MODEL if (PLATFORM_MODEL / "bundle.json").is_file() else built_in)
    digest.begin(model)  # while torch is imported, which takes a second and needs one core

    from amf.inference import job

    sys.stdout.reconfigure(errors="backslashreplace")  # files may have any name
    try:
        job.run(arguments.input, arguments.output, model, arguments.device)
    except AmfError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the answer is on disk, and unloading torch would take a tenth of the job
