"""Data: plug-in sources, asked together and kept fresh."""
