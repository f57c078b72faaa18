#!/usr/bin/env python
"""Skinspire's command line."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "skinspire.settings")
    from django.core.management import execute_from_command_line

    from skinspire.acting import Actor, become, os_account

    become(Actor(os_account()))  # also of Django's own commands: migrate, shell, createsuperuser
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
