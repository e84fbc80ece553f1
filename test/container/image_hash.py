"""Print one hash over an exported file system: names, kinds, modes, owners, times and contents of its files.

    docker export CONTAINER | python test/container/image_hash.py

Two builds of one revision give the same. Left out are the times of folders, which every build touches, and
what the engine puts into every container.
"""

import hashlib
import sys
import tarfile
from typing import BinaryIO

OF_THE_ENGINE = {".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"}


def content_hash(stream: BinaryIO) -> str:
    lines = []
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if member.name in OF_THE_ENGINE:
                continue
            file = archive.extractfile(member) if member.isreg() else None
            digest = hashlib.file_digest(file, "sha256").hexdigest() if file else member.linkname
            time = int(member.mtime) if member.isreg() else 0
            lines.append(
                f"{member.name} {member.type!r} {member.mode:o} {member.uid}:{member.gid} {time} {digest}"
            )
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


if __name__ == "__main__":
    print(content_hash(sys.stdin.buffer))
