"""What pyproject.toml cannot say: the wheel carries the bundle that ships, as amf/shipped/."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["amf*"]), "amf.shipped"],
    package_dir={"amf.shipped": "model"},
)
