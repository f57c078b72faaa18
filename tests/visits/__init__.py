"""An application that exists for its migrations; each does something else worth testing."""
