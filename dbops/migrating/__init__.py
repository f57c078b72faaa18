"""What Django's migrations are to this code: running them, writing them, knowing them, and by whom
they were applied. The operations know no Django and are handed the :class:`Migrator` from here."""
