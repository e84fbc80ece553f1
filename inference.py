"""The container's entry: a Grand Challenge job, or with --serve a server; defaults are the platform's."""

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path

from amf.errors import AmfError
from amf.inference.streams import outlive_readers, stderr_on_stdout
from amf.model import digest

PLATFORM_MODEL = Path("/opt/ml/model")
"""Where the platform unpacks a model tarball; a bundle there wins over the built-in one."""


def main() -> int:
    """Run the job, or serve; 0 done, 2 not a valid job or flag, 3 no usable bundle, 1 a bug."""
    parser = argparse.ArgumentParser(description="Score a stack of mitotic figures: normal or atypical.")
    parser.add_argument("--input", type=Path, default=Path("/input"), help="folder with inputs.json")
    parser.add_argument("--output", type=Path, default=Path("/output"), help="existing folder for the answer")
    parser.add_argument(
        "--model", type=Path, help="bundle folder; default: /opt/ml/model if it is one, else ours"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--serve", action="store_true", help="answer GET /health and POST /invoke, many jobs")
    parser.add_argument("--host", default="0.0.0.0", help="with --serve; default: all addresses")
    parser.add_argument("--port", type=int, default=4743, help="with --serve; default: 4743, the platform's")
    arguments = parser.parse_args()

    built_in = Path(__file__).resolve().parent / "model"
    model = arguments.model or (PLATFORM_MODEL if (PLATFORM_MODEL / "bundle.json").is_file() else built_in)
    digest.begin(model)  # while torch is imported, which takes a second and needs one core
    outlive_readers()
    folders = arguments.input, arguments.output, model, arguments.device
    try:
        if arguments.serve:
            from amf.inference.serve import serve

            serve(arguments.host, arguments.port, *folders)
        else:
            with stderr_on_stdout():
                from amf.inference import job

                job.run(*folders)
    except AmfError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # a full disk takes no log: the answer is there all the same
            stream.flush()
    os._exit(code)  # unloading torch would take a tenth of the job
