"""The plan of a masked copy: rules and catalogue together, everything wrong named at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from dbops.exceptions import MaskingError
from dbops.masking.probe import probe_rows
from dbops.masking.rules import Rule, Rules
from dbops.masking.safety import is_safe
from dbops.masking.strategies import (
    compile_rule,
    determined_by_value,
    search_vector,
    unique_after,
)
from dbops.masking.survey import (
    Column,
    ForeignKey,
    Table,
    Unique,
    folding,
    large_object_count,
    survey_tables,
)
from dbops.masking.values import KEY_SETTING, literal, quoted
from dbops.postgres.connection import Connection
from dbops.wording import counted

SAFE, GENERATED, UNCOVERED, REBUILT, EMPTIED, LEFT_OUT = (
    "safe", "generated", "uncovered", "rebuilt", "emptied", "left out",
)  # fmt: skip
"""What is decided about a column without a rule; with one, it is the strategy."""
_LONGEST_VALUE = 64
"""Characters beyond which the length of a column of keys no longer cuts what is put there."""


@dataclass(frozen=True)
class Uncovered:
    """A column that no rule and no safe type covers."""

    table: str
    column: str
    type: str


@dataclass(frozen=True)
class Decision:
    """What happens to one column."""

    table: str
    column: str
    type: str
    how: str


@dataclass(frozen=True)
class MaskPlan:
    """What a masked copy does instead of copying a table as it is."""

    columns: Mapping[str, Mapping[str, str]]
    """{"schema.table": {column: SQL expression}}, of columns that are changed; of every table whose
    rows may leave, partitioned ones included: a table that is not here was not looked at."""
    emptied: frozenset[str]
    """Tables whose rows stay behind, partitioned ones included."""
    large_objects: bool
    """Whether large objects are copied."""
    notes: tuple[str, ...]
    """What the user should be told."""
    problems: tuple[str, ...]
    """Sentences: uncovered columns first, then rules that cannot work."""
    missing: tuple[Uncovered, ...]
    decisions: tuple[Decision, ...] = ()
    """Every column of every table, a partition's at its root."""

    def require_complete(self) -> None:
        """Raises MaskingError with every problem, where there is one."""
        if self.problems:
            raise MaskingError(
                f"The masking rules are not enough yet: {' '.join(self.problems)}",
                hint="python manage.py masking --missing",
                result={"problems": list(self.problems)},
            )


def plan_masks(connection: Connection, rules: Rules, staying: Collection[str] = ()) -> MaskPlan:
    """Bring rules and the source's catalogue together, and try the expressions on a few rows.

    Writes nothing; the source may be a standby.

    Args:
        staying: tables ("schema.table") whose rows do not leave, whatever the rules say.

    Raises:
        StatementError.
    """
    planner = _Planner(survey_tables(connection), rules, folding(connection), frozenset(staying))
    planner.decide()
    planner.examine()
    problems = planner.problems
    if not problems:  # one that is known already would be found again, less clearly
        problems = probe_rows(connection, planner.tables, planner.changed())
    objects = 0 if rules.keep_large_objects else large_object_count(connection)
    if objects:
        left = counted(objects, "large object stays", "large objects stay")
        planner.notes.append(f"{left} behind ([large_objects] keep = false).")
    uncovered = [
        f"{each.table}.{each.column} ({each.type}) has no rule." for each in planner.missing
    ]
    return MaskPlan(
        columns=planner.compiled_by_table(),
        emptied=frozenset(
            table.label for table in planner.tables.values() if table.root in planner.left_out
        ),
        large_objects=rules.keep_large_objects,
        notes=tuple(planner.notes),
        problems=(*uncovered, *problems),
        missing=tuple(planner.missing),
        decisions=tuple(planner.decisions),
    )


def session_settings(key: bytes) -> dict[str, str]:
    """Settings that a session must have in which the expressions are run."""
    return {KEY_SETTING: key.hex()}


@dataclass
class _Planner:
    tables: dict[str, Table]
    rules: Rules
    fold: str
    staying: frozenset[str] = frozenset()
    compiled: dict[str, dict[str, str]] = field(default_factory=dict)
    """By root."""
    used: dict[str, dict[str, Rule]] = field(default_factory=dict)
    """Rules in force, by root: those of columns that exist and are not generated."""
    left_out: set[str] = field(default_factory=set)
    """Tables of which no row leaves, by root."""
    staying_roots: set[str] = field(default_factory=set)
    """Those of them that somebody else decided about."""
    missing: list[Uncovered] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def decide(self) -> None:
        """What happens to each column."""
        roots = [table for table in self.tables.values() if table.root == table.label]
        leaving = {
            table.root
            for table in self.tables.values()
            if table.holds_rows and table.label not in self.staying
        }
        self.staying_roots = {table.label for table in roots} - leaving
        self.left_out = self.staying_roots | {
            table.label for table in roots if self.rules.leaves_out(table.label)
        }
        vectors: list[tuple[Table, Column]] = []
        for table in roots:
            keys = _keys(table)
            self.compiled[table.label], self.used[table.label] = {}, {}
            for column in table.columns.values():
                how = LEFT_OUT
                if table.label not in self.left_out:
                    how = self._decide_column(table, column, column.name in keys)
                if how == REBUILT:  # after all others, of which it is made
                    vectors.append((table, column))
                else:
                    self.decisions.append(Decision(table.label, column.name, column.type, how))
        for table, column in vectors:
            how = self._fill_search_vector(table, column)
            self.decisions.append(Decision(table.label, column.name, column.type, how))
        self._note_rules_without_use(roots)

    def _decide_column(self, table: Table, column: Column, key: bool) -> str:
        rule = self.rules.rule(table.label, column.name)
        if column.generated:  # computed anew on the target, from masked columns
            return GENERATED
        if rule is not None:
            self.used[table.label][column.name] = rule
            if rule.strategy != "keep":
                self._compile(rule, column, table)
            return rule.strategy
        if column.base == "tsvector" and not column.array:
            return REBUILT
        safe = is_safe(
            column.name, column.base, enum=column.enum, key=key, fraction=column.fraction
        )
        if safe or self.rules.considers_safe(table.label, column.name, column.type):
            return SAFE
        self.missing.append(Uncovered(table.label, column.name, column.type))
        return UNCOVERED

    def _compile(self, rule: Rule, column: Column, table: Table) -> None:
        if rule.strategy == "null" and column.not_null:
            self.problems.append(f"{table.label}.{column.name}: null, but the column is NOT NULL.")
        try:
            expression = compile_rule(rule, column, table, self.fold)
        except MaskingError as error:
            self.problems.append(str(error))
        else:
            self.compiled[table.label][column.name] = expression

    def _fill_search_vector(self, table: Table, column: Column) -> str:
        """A tsvector column without a rule: as PostgreSQL's own trigger fills it, or empty."""
        compiled = self.compiled[table.label]
        vector = table.search_vectors.get(column.name)
        made = vector and search_vector(
            vector,
            lambda name: compiled.get(name, quoted(name)),
            [name for name, it in table.columns.items() if not it.generated],
        )
        where = f"{table.label}.{column.name}"
        if made:
            self.notes.append(f"{where} is made anew from the masked columns.")
        else:
            self.notes.append(f"{where} is left empty: no trigger of PostgreSQL's own fills it.")
        empty = literal("") if column.not_null else "NULL"
        compiled[column.name] = f"({made or empty})::{column.type}"
        return REBUILT if made else EMPTIED

    def _note_rules_without_use(self, roots: Iterable[Table]) -> None:
        known = {table.label: table for table in roots}
        absent = []
        for name, section in self.rules.sections.items():
            partition = self.tables.get(name)
            if name in known:
                unknown = sorted(section.columns.keys() - known[name].columns.keys())
                self.notes += [f"{name} has no column {column}." for column in unknown]
            elif partition is not None:
                self.notes.append(f"{name} is a partition: the rules of {partition.root} hold.")
            elif not set("*?[") & set(name):
                absent.append(name)
        if absent:
            self.notes.append(f"There are rules for tables that do not exist: {', '.join(absent)}.")

    def examine(self) -> None:
        """Rules that cannot work."""
        for table in self.tables.values():
            if table.root in self.left_out:
                continue
            for name in sorted(table.partition_key & self.compiled[table.root].keys()):
                self.problems.append(
                    f"{table.root}.{name} decides which partition a row belongs to and cannot be "
                    "masked."
                )
            for unique in table.uniques:
                self._examine_unique(table, unique)
            for key in table.foreign_keys:
                self._examine_foreign_key(table, key)
        self.problems = list(dict.fromkeys(self.problems))

    def _stays_different(self, table: Table, name: str, among: Iterable[str]) -> bool:
        """Whether rows that differ in a column still do, or by the person if the dates of one
        person move together."""
        if name not in self.compiled[table.root]:
            return True
        rule = self.used[table.root].get(name)
        if rule is None:
            return False
        if rule.strategy == "date_shift":
            person = rule.options.get("person")
            keys = (person,) if person else self.tables[table.root].primary_key
            return bool(keys) and all(
                key in among and key not in self.compiled[table.root] for key in keys
            )
        return unique_after(rule, table.columns[name])

    def _examine_unique(self, table: Table, unique: Unique) -> None:
        masked = [name for name in unique.columns if name in self.compiled[table.root]]
        if not masked:
            return
        different = {
            name for name in unique.columns if self._stays_different(table, name, unique.columns)
        }
        others = (set(other.columns) for other in table.uniques if other.whole and other != unique)
        enough = len(different) == len(unique.columns) or any(
            columns and columns <= different for columns in others
        )
        nulls = all(self._becomes_null(table, name) for name in masked) and not unique.primary
        if unique.exclusion or not (enough or nulls):
            culprit = next((name for name in masked if name not in different), masked[0])
            rule = self.used[table.root].get(culprit)
            self.problems.append(
                f"{table.root}.{culprit}: {rule.strategy if rule else 'its new value'} does not "
                f"keep values apart, as {unique.name} demands."
            )

    def _becomes_null(self, table: Table, name: str) -> bool:
        rule = self.used[table.root].get(name)
        return rule is not None and rule.strategy == "null"

    def _examine_foreign_key(self, table: Table, key: ForeignKey) -> None:
        parent = self.tables[key.parent]
        ends = [f"{table.root}.{', '.join(key.columns)}",
                f"{parent.root}.{', '.join(key.parent_columns)}"]  # fmt: skip
        if any(self._becomes_null(table, name) for name in key.columns):
            return
        if parent.root in self.staying_roots:
            return  # what stands there instead is known to the copy alone
        if parent.root in self.left_out:
            self.problems.append(
                f"{ends[0]} refers to {parent.root}, whose rows are left out: leave out those of "
                f"{table.root}, too, or mask the column with null."
            )
            return
        for name, other in zip(key.columns, key.parent_columns, strict=True):
            if self._fate(table, name) != self._fate(parent, other):
                self.problems.append(
                    f"{ends[0]} refers to {ends[1]}, and the two are not masked alike."
                )

    def _fate(self, table: Table, name: str) -> tuple[str, str]:
        """Equal for two columns whose equal values stay equal."""
        rule = self.used[table.root].get(name)
        if rule is None or name not in self.compiled[table.root]:
            return ("kept", "")
        if not determined_by_value(rule):
            return (table.root, name)
        # The same expression over the column, the type aside: text and varchar hold the same.
        column = table.columns[name]
        made = self.compiled[table.root][name].removesuffix(f"::{column.type}")
        made = made.replace(f"{quoted(name)}::text", "?").replace(quoted(name), "?")
        return (made, str(min(column.length or _LONGEST_VALUE, _LONGEST_VALUE)))

    def compiled_by_table(self) -> dict[str, dict[str, str]]:
        """For each table whose rows may leave; a partition's columns are its root's."""
        return {
            table.label: self.compiled[table.root]
            for table in self.tables.values()
            if table.root not in self.left_out
        }

    def changed(self) -> dict[str, dict[str, str]]:
        """Those that hold rows and of which something is masked."""
        return {
            name: columns
            for name, columns in self.compiled_by_table().items()
            if columns and self.tables[name].holds_rows
        }


def _keys(table: Table) -> frozenset[str]:
    """Columns that identify a row inside the database alone, and those that refer to others. A
    primary key that no sequence fills may be the number of an identity card."""
    surrogates = (
        name
        for name in table.primary_key
        if table.columns[name].counted or table.columns[name].base == "uuid"
    )
    return frozenset(surrogates).union(*(key.columns for key in table.foreign_keys))
