"""``test_db_features``: every capability tried out on scratch databases of a server, before it is
trusted with a database that matters."""
