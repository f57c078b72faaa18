"""Poolers, several hosts, replicas: where connections lead, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dbops.exceptions import PooledConnectionError
from dbops.postgres.connection import connect
from tests.pgbouncer import pgbouncer
from tests.servers import Server


def test_an_operation_refuses_a_pooler_and_leaves_nothing_in_its_sessions(server18: Server) -> None:
    import psycopg2

    with pgbouncer(server18) as port:
        params = replace(server18.params, port=port)
        with pytest.raises(PooledConnectionError) as caught:
            connect(params)
        print(caught.value, caught.value.hint)
        plain = psycopg2.connect(**params.libpq_keywords())
        with plain, plain.cursor() as cursor:
            cursor.execute("SHOW search_path")
            assert cursor.fetchone() == ('"$user", public',)
        plain.close()
    with pgbouncer(server18, "elsewhere") as port, pytest.raises(PooledConnectionError):
        connect(replace(server18.params, port=port))
