"""Its folder is on the path of all tests: `servers` holds the real servers that stand in for far ones."""
