"""A database that holds everything dumps and copies have been known to lose."""

from __future__ import annotations

from typing import Any

from tests.installation import Installation

ODD = """
CREATE SCHEMA "Ö dd";
CREATE TABLE public.people (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL,
    upper_name text GENERATED ALWAYS AS (md5(name)) STORED, born date, photo oid);
INSERT INTO public.people (name, born) SELECT 'Zoë ' || g, date '1950-01-01' + g
  FROM generate_series(1, 500) g;
CREATE TABLE public.visits (
    id bigserial, person int NOT NULL REFERENCES public.people ON DELETE CASCADE, at timestamptz)
  PARTITION BY RANGE (at);
CREATE TABLE public.visits_2025 PARTITION OF public.visits
  FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE public.visits_later PARTITION OF public.visits DEFAULT;
INSERT INTO public.visits (person, at)
  SELECT 1 + g % 500, timestamptz '2025-06-01' + g * interval '1 day'
  FROM generate_series(1, 900) g;
CREATE TABLE "Ö dd"."ta""ble; --" ("co'l" text, "select" numeric(20, 5)[], blob bytea);
INSERT INTO "Ö dd"."ta""ble; --" VALUES (E'tab\\t nl\\n \\\\ ''', ARRAY[1.5, NULL], '\\x00ff');
CREATE TABLE public.nothing ();
INSERT INTO public.nothing DEFAULT VALUES;
CREATE TABLE public.empty (id int);
CREATE TABLE public.huge AS SELECT 1 AS id, repeat('x', 20000000) AS wide;
CREATE MATERIALIZED VIEW public.by_year AS
  SELECT extract(year FROM born) AS year, count(*) FROM public.people GROUP BY 1;
CREATE VIEW "Ö dd".names AS SELECT name FROM public.people;
CREATE TYPE public.mood AS ENUM ('sad', 'happy');
CREATE TABLE public.moods (id int, moods public.mood[]);
INSERT INTO public.moods VALUES (1, '{sad,happy}');
COMMENT ON TABLE public.people IS 'everyone';
CREATE FUNCTION public.age(p public.people) RETURNS int LANGUAGE sql STABLE
  AS $$ SELECT extract(year FROM age(p.born))::int $$;
CREATE INDEX people_upper ON public.people (upper_name);
CREATE STATISTICS public.people_stats ON name, born FROM public.people;
CREATE PUBLICATION patients FOR TABLE public.people;
SELECT setval('public.visits_id_seq', 5000);
GRANT SELECT ON public.people TO PUBLIC;
GRANT UPDATE (name) ON public.people TO PUBLIC;
REVOKE INSERT ON public.empty FROM CURRENT_USER;
"""


def make_odd(installation: Installation) -> Installation:
    installation.result("init_db", "--env", "test")
    installation.sql("test", ODD)
    installation.sql(
        "test",
        "UPDATE public.people SET photo = lo_from_bytea(0, decode(md5(name), 'hex')) WHERE id < 20",
    )
    installation.sql(
        "test",
        f'ALTER DATABASE {quoted_database(installation, "test")} SET search_path = "Ö dd", public',
    )
    return installation


def quoted_database(installation: Installation, environment: str) -> str:
    return '"' + installation.databases[environment].database + '"'


def large_objects(installation: Installation, environment: str) -> Any:
    return installation.sql(
        environment,
        "SELECT md5(string_agg(md5(lo_get(oid)), '' ORDER BY oid)) FROM pg_largeobject_metadata",
    )
