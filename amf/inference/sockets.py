"""The platform's sockets of Track 2: their names, and how inputs.json and predictions.json describe them."""

from collections.abc import Mapping
from typing import Any

INPUT_SOCKET = "stacked-histopathology-roi-cropouts"
OUTPUT_SOCKET = "multiple-mitotic-figure-classification"
OUTPUT_NAME = f"{OUTPUT_SOCKET}.json"


def socket_of(entry: Any) -> Mapping[str, Any]:
    """Return what an entry of inputs.json or predictions.json says of its socket.

    The platform wrote it under the key `interface` until 2025, and writes it under `socket` or under both
    since. One that is null counts as absent.

    Raises
    ------
    TypeError : it is under neither key, or is no object.
    ValueError : it is under both keys, with another slug or relative_path. The message is the end of a
        sentence about the file.
    """
    keys = ("socket", "interface") if isinstance(entry, dict) else ()
    found = [entry[key] for key in keys if entry.get(key) is not None]
    if not found or not all(isinstance(described, dict) for described in found):
        raise TypeError("no object under socket or interface")
    for key in ("slug", "relative_path"):
        values = [described.get(key) for described in found]
        if values[0] != values[-1]:
            raise ValueError(
                f"has {key} {values[0]!r} under socket and {values[-1]!r} under interface, expected the same"
            )
    return found[0]
