"""One module per published data set; a new one is found by being here and entering itself with `register`."""

import importlib
import pkgutil

from amf.data.sources.base import SOURCES, Figure, Reading, Source, register

__all__ = ["SOURCES", "Figure", "Reading", "Source", "register"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
