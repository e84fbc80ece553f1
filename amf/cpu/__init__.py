"""Faster kernels for a CPU, on torch's private operators. Without this folder everything runs, slower."""

from amf.cpu.convolution import pack_convolutions
from amf.cpu.depthwise import quicken
from amf.cpu.linear import pack_int8, pack_linears, reason_against_int8

__all__ = ["pack_convolutions", "pack_int8", "pack_linears", "quicken", "reason_against_int8"]
