"""Atypical mitotic figures (AMF): train offline, ship one bundle, score a stack in one short process."""

__version__ = "0.1.0"
