"""The outside rim: far HTTP servers, caches, meters."""
