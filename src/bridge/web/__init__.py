"""The inside rim: connections, routes, handlers, answers."""
