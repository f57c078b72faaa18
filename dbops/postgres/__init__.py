"""PostgreSQL without Django: connections, tools, databases, swap, locks and the embedded server."""
