"""Write the software bill of materials of the machine this runs on, as CycloneDX JSON on stdout.

    python sbom.py > sbom.json

Python distributions as their metadata name them, and Debian packages where there are any. There is no time
and no serial number in it, so the same image gives the same bytes. Only the standard library is needed.
"""

import json
import subprocess
import sys
from importlib.metadata import distributions
from shutil import which


def python_components() -> list[dict[str, object]]:
    """Every installed distribution, with its licence where its metadata names one."""
    components = []
    for distribution in distributions():
        name, version = distribution.metadata["Name"], distribution.version
        if not name:  # the remains of a broken installation, say
            print(
                f"sbom.py: left out {distribution.locate_file('')}: a distribution without a name",
                file=sys.stderr,
            )
            continue
        component: dict[str, object] = {
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name.lower().replace('_', '-')}@{version}",
        }
        licence = distribution.metadata.get("License-Expression") or distribution.metadata.get("License")
        if licence and "\n" not in licence:  # some put the whole text there
            component["licenses"] = [{"license": {"name": licence}}]
        components.append(component)
    return components


def debian_components() -> list[dict[str, object]]:
    """Every installed Debian or Ubuntu package."""
    if not which("dpkg-query"):
        return []
    fields = "${Package} ${Version} ${Architecture}\n"
    listing = subprocess.run(["dpkg-query", "-W", "-f", fields], check=True, capture_output=True, text=True)
    return [
        {"type": "library", "name": name, "version": version, "purl": f"pkg:deb/{name}@{version}?arch={arch}"}
        for name, version, arch in map(str.split, listing.stdout.splitlines())
    ]


if __name__ == "__main__":
    found = {str(c["purl"]): c for c in python_components() + debian_components()}
    components = [{"bom-ref": purl, **found[purl]} for purl in sorted(found)]
    bom = {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components}
    print(json.dumps(bom, indent=1))
