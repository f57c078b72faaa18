"""The project: settings per environment, environment discovery, URLs."""
