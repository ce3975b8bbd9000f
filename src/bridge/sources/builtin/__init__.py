"""Built-in sources; they load through the same entry points as foreign ones."""
