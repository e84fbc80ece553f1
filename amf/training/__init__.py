"""The offline half: everything that needs labels. The online half never imports it."""
