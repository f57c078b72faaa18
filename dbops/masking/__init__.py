"""Masks: rules, and the SQL expressions they become inside the COPY that leaves the source."""
