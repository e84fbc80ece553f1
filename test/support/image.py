"""What of the package the image holds."""

from test.support.paths import ROOT


def in_the_image():
    """Modules of amf/ that .dockerignore lets through, by its lines for single files and for folders."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = [ROOT / line[1:] for line in lines[lines.index("*") :] if line.startswith("!amf")]
    return {file for path in let_in for file in ([path] if path.is_file() else path.rglob("*.py"))}
