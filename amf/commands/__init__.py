"""The commands of `amf`: one module each; the signature of its function `run` is the command's."""
