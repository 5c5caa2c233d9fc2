"""Random statements, each in the words of Headwater and of DuckDB. Never one whose answer depends on
the order of rows where none is asked for."""

from collections import namedtuple

# One meaning, two spellings.
E = namedtuple("E", "h d")

ZONES = ["America/New_York", "Europe/Berlin", "Asia/Kolkata", "Pacific/Kiritimati", "Etc/GMT+12"]
DAYS = ["2026-10-25", "2026-11-01", "2026-11-02", "2026-11-05", "2026-03-08"]
CLOCKS = ["00:00:00", "05:00:00", "18:30:00", "23:59:59.5"]
TEXTS = ["", "a", "B", "ab", "b_", "s1", "d3", "7"]


def same(text):
    return E(text, text)


def form(shape, *parts):
    """The same shape around both spellings."""
    return E(shape.format(*(p.h for p in parts)), shape.format(*(p.d for p in parts)))


def forms(h, d, *parts):
    return E(h.format(*(p.h for p in parts)), d.format(*(p.d for p in parts)))


def listed(parts):
    return E(", ".join(p.h for p in parts), ", ".join(p.d for p in parts))


class Generator:
    def __init__(self, rng):
        self.rng = rng
        self.loose = False  # a sum whose order is not told
        self.table = "t"

    def pick(self, *of):
        return self.rng.choice(of)

    def chance(self, of):
        return self.rng.random() < of

    # Values.

    def column(self, name):
        return same(f"{self.table}.{name}")

    def integer(self, depth=2):
        if depth == 0 or self.chance(0.3):
            return self.pick(
                self.column("i"), self.column("i"), self.column("id"),
                same(str(self.rng.randint(-9, 9))), same("NULL::bigint"),
            )
        a, b = self.integer(depth - 1), self.integer(depth - 1)
        kind = self.rng.randrange(9)
        if kind == 0:
            return form("CASE WHEN {0} THEN {1} ELSE {2} END", self.boolean(depth - 1), a, b)
        if kind == 1:
            return forms("({0} / nullif({1}, 0))", "({0} // nullif({1}, 0))", a, b)
        if kind == 2:
            return form("CAST(trunc({0}) AS BIGINT)", self.floating(depth - 1))
        if kind == 3:
            return form("coalesce({0}, {1})", a, b)
        if kind == 4:
            return form("length({0})", self.text(depth - 1))
        if kind == 5:
            part = self.pick("year", "month", "day", "hour", "minute", "dow", "doy")
            return form("CAST(extract(" + part + " FROM {0}) AS BIGINT)", self.time(depth - 1))
        if kind == 6:
            return form(self.pick("greatest", "least") + "({0}, {1})", a, b)
        if kind == 7:
            return form("({0} % nullif({1}, 0))", a, b)
        return form(self.pick("({0} + {1})", "({0} - {1})", "(-{0})", "abs({0})", "nullif({0}, {1})"), a, b)

    def floating(self, depth=2):
        if depth == 0 or self.chance(0.3):
            return self.pick(
                self.column("f"), self.column("f"), same(f"{self.rng.randint(-40, 40) / 4}::double"),
                same("NULL::double"),
            )
        a, b = self.floating(depth - 1), self.floating(depth - 1)
        kind = self.rng.randrange(7)
        if kind == 0:
            return form("CAST({0} AS DOUBLE)", self.integer(depth - 1))
        if kind == 1:
            return form("({0} / nullif({1}, 0))", a, b)
        if kind == 2:
            return form("CASE WHEN {0} THEN {1} ELSE {2} END", self.boolean(depth - 1), a, b)
        if kind == 3:
            return form(self.pick("floor", "ceil", "abs", "round") + "({0})", a)
        if kind == 4:
            return form("TRY_CAST({0} AS DOUBLE)", self.text(depth - 1))
        if kind == 5:
            return form("CASE {0} WHEN {1} THEN 1.5::double ELSE {0} END", a, b)
        return form(self.pick("({0} + {1})", "({0} - {1})", "({0} * {1})", "(-{0})", "nullif({0}, {1})"), a, b)

    def text(self, depth=2):
        if depth == 0 or self.chance(0.4):
            name = self.pick("x", "device", "site")
            return self.pick(self.column(name), self.column(name), same(f"'{self.pick(*TEXTS)}'"))
        a, b = self.text(depth - 1), self.text(depth - 1)
        kind = self.rng.randrange(6)
        if kind == 0:
            return form("CAST({0} AS VARCHAR)", self.integer(depth - 1))
        if kind == 1:
            return form("CASE WHEN {0} THEN {1} END", self.boolean(depth - 1), a)
        if kind == 2:
            return form(self.pick("upper", "lower", "trim", "reverse") + "({0})", a)
        if kind == 3:
            return form(f"substr({{0}}, {self.rng.randint(1, 3)}, {self.rng.randint(0, 3)})", a)
        if kind == 4:
            return form("replace({0}, 'a', 'zz')", a)
        return form(self.pick("({0} || {1})", "concat({0}, {1})", "coalesce({0}, {1})"), a, b)

    def time(self, depth=2):
        if depth == 0 or self.chance(0.4):
            return self.pick(self.column("time"), self.column("time"), self.moment())
        a = self.time(depth - 1)
        kind = self.rng.randrange(5)
        if kind == 0:
            return form("date_trunc('" + self.pick("minute", "hour", "day", "week", "month", "year") + "', {0})", a)
        if kind == 1:
            width = self.pick("7 minutes", "1 hour", "6 hours", "1 day")
            return forms(
                f"date_bin(INTERVAL '{width}', {{0}})",
                f"time_bucket(INTERVAL '{width}', {{0}}, TIMESTAMP '1970-01-01')", a,
            )
        if kind == 2:
            there, here = self.pick(*ZONES), self.pick(*ZONES)
            moved = f"AT TIME ZONE '{there}' AT TIME ZONE '{here}'"
            return forms(f"({{0}} {moved})", f"({{0}} AT TIME ZONE 'UTC' {moved} AT TIME ZONE 'UTC')", a)
        width = self.pick("90 seconds", "1 day", "36 hours", "1 month")
        return form("({0} " + self.pick("+", "-") + f" INTERVAL '{width}')", a)

    def moment(self):
        text = f"{self.pick(*DAYS)} {self.pick(*CLOCKS)}"
        return E(f"('{text}Z'::timestamptz)", f"(TIMESTAMP '{text}')")

    def date(self, depth=1):
        a = self.time(depth)
        if self.chance(0.5):
            return form("CAST({0} AS DATE)", a)
        zone = self.pick(*ZONES)
        return forms(
            f"CAST({{0}} AT TIME ZONE '{zone}' AS DATE)",
            f"CAST(({{0}} AT TIME ZONE 'UTC') AT TIME ZONE '{zone}' AS DATE)", a,
        )

    def value(self, depth=2):
        return self.pick(self.integer, self.floating, self.text, self.time, self.date, self.boolean)(depth)

    # Conditions.

    def boolean(self, depth=2):
        if depth == 0:
            return self.pick(self.column("b"), self.column("b"), same("true"), same("NULL::boolean"))
        kind = self.rng.randrange(12)
        if kind < 4:
            return self.comparison(depth)
        a, b = self.boolean(depth - 1), self.boolean(depth - 1)
        if kind < 6:
            return form("({0} " + self.pick("AND", "OR") + " {1})", a, b)
        if kind == 6:
            return form("(NOT {0})", a)
        if kind == 7:
            return form("(" + "{0} IS " + self.pick("TRUE", "NOT TRUE", "FALSE", "NULL", "NOT NULL") + ")", a)
        if kind == 8:
            # Without brackets: what binds stronger is part of the answer.
            word = self.pick("IS DISTINCT FROM", "IS NOT DISTINCT FROM")
            return form("({0} " + word + " {1} " + self.pick("AND", "OR") + " {2})", a, b, self.boolean(0))
        if kind == 9:
            pattern = self.pick("%a%", "s_", "%", "b\\_")
            # A backslash escapes here as in PostgreSQL; DuckDB wants to be told.
            return forms(f"({{0}} LIKE '{pattern}')", f"({{0}} LIKE '{pattern}' ESCAPE '\\')", self.text(depth - 1))
        if kind == 10:
            return form("({0} IS NULL)", self.value(depth - 1))
        return form("CASE WHEN {0} THEN {1} ELSE {2} END", a, b, self.boolean(0))

    def comparison(self, depth):
        make = self.pick(self.integer, self.floating, self.text, self.time, self.time, self.date)
        a, b, c = make(depth - 1), make(depth - 1), make(depth - 1)
        kind = self.rng.randrange(10)
        negated = self.pick("", "NOT ")
        if kind == 0:
            return form("({0} " + negated + "BETWEEN {1} AND {2})", a, b, c)
        if kind == 1:
            return form("({0} " + negated + "IN ({1}, {2}))", a, b, c)
        if kind == 2:
            return form("({0} IS " + negated + "DISTINCT FROM {1})", a, b)
        return form("({0} " + self.pick("=", "<>", "<", "<=", ">", ">=") + " {1})", a, b)

    def membership(self):
        """IN and EXISTS with a subquery, anywhere in a condition."""
        negated = self.pick("", "NOT ")
        where = self.pick("", " WHERE u.w IS NOT NULL", " WHERE u.w > 50", " WHERE u.device = t.device")
        kind = self.rng.randrange(5)
        if kind == 4:
            op = self.pick("=", "<>", "<", ">=")
            inner = same(f"(t.i {op} {self.pick('ANY', 'ALL')} (SELECT u.w FROM u{where}))")
        elif kind == 0:
            inner = same(f"{negated}EXISTS (SELECT 1 FROM u WHERE u.device = t.device AND u.w = t.i)")
        elif kind == 1:
            inner = same(f"t.x {negated}IN (SELECT u.device FROM u{where})")
        else:
            left = self.pick("t.i", "t.i + 1", "3", "NULL::bigint")
            inner = same(f"({left} {negated}IN (SELECT u.w FROM u{where}))")
        return form(
            self.pick("{0}", "{0}", "{0} AND {1}", "{0} OR {1}", "NOT ({0} AND {1})", "({0}) IS NULL",
                      "CASE WHEN {0} THEN false ELSE {1} END"),
            inner, self.boolean(1),
        )

    def where(self):
        if self.chance(0.15):
            return same("")
        return form(" WHERE {0}", self.membership() if self.table == "t" and self.chance(0.25) else self.boolean())

    # Statements.

    def aggregate(self):
        distinct = self.pick("", "", "DISTINCT ")
        kind = self.rng.randrange(9)
        if kind == 0:
            call = same("count(*)")
        elif kind == 1:
            call = form(f"count({distinct}{{0}})", self.value(1))
        elif kind == 2:
            call = form(f"sum({distinct}{{0}})", self.integer(1))
        elif kind == 3:
            self.loose = True
            call = form(self.pick("sum", "avg", "stddev", "var_pop") + "({0})", self.floating(1))
        elif kind == 4:
            self.loose = True
            call = form("avg({0})", self.integer(1))
        elif kind == 5:
            call = form(self.pick("bool_and", "bool_or") + "({0})", self.boolean(1))
        elif kind == 6:
            call = form("median({0})", self.floating(1))
        else:
            call = form(self.pick("min", "max") + "({0})", self.pick(self.integer, self.floating, self.text, self.time)(1))
        if self.chance(0.3):
            call = form("{0} FILTER (WHERE {1})", call, self.boolean(1))
        return call

    def window(self):
        parts = self.pick("", "PARTITION BY t.device ", "PARTITION BY t.site, t.b ")
        descending = self.pick("", " DESC")
        order = f"ORDER BY t.time{descending}, t.id"
        frame = self.pick(
            "", " ROWS BETWEEN 2 PRECEDING AND CURRENT ROW", " ROWS BETWEEN 1 PRECEDING AND 3 FOLLOWING",
            " ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
        )
        over = f" OVER ({parts}{order}{frame})"
        kind = self.rng.randrange(8)
        if kind == 6:
            width = self.pick("1 minute", "1 hour", "1 day")
            frame = f"RANGE BETWEEN INTERVAL '{width}' PRECEDING AND {self.pick('CURRENT ROW', 'UNBOUNDED FOLLOWING')}"
            call = form(self.pick("sum", "min", "count") + f"({{0}}) OVER ({parts}ORDER BY t.time {frame})", self.integer(1))
        elif kind == 7:
            self.loose = True
            call = form(self.pick("sum", "avg") + "({0})" + over, self.floating(1))
        elif kind == 0:
            call = same(self.pick("row_number", "rank", "dense_rank") + f"() OVER ({parts}{order})")
        elif kind == 1:
            name, by = self.pick("lead", "lag"), self.rng.randint(1, 3)
            a = self.pick(self.integer, self.text)(1)
            over = f" OVER ({parts}{order})"
            if self.chance(0.5):
                return forms(
                    f"{name}({{0}}, {by}) IGNORE NULLS{over}", f"{name}({{0}}, {by} IGNORE NULLS){over}", a
                )
            return form(f"{name}({{0}}, {by}){over}", a)
        elif kind == 2:
            name = self.pick("first_value", "last_value")
            a = self.integer(1)
            if self.chance(0.3):
                return forms(f"{name}({{0}}) IGNORE NULLS{over}", f"{name}({{0}} IGNORE NULLS){over}", a)
            call = form(f"{name}({{0}}){over}", a)
        elif kind == 3:
            call = form("sum({0})" + over, self.integer(1))
        elif kind == 4:
            call = form(self.pick("min", "max") + "({0})" + over, self.pick(self.integer, self.floating)(1))
        else:
            call = form("count({0})" + over, self.value(1))
        return call

    def named(self, values):
        return listed([form("{0} AS c" + str(n), v) for n, v in enumerate(values)])

    def plain(self):
        values = [self.value() for _ in range(self.rng.randint(1, 3))]
        return form("SELECT {0} FROM t{1}", self.named(values), self.where())

    def ordered(self):
        values = [self.value(1), self.column("id")]
        way = self.pick("ASC NULLS FIRST", "DESC NULLS LAST", "ASC NULLS LAST", "DESC NULLS FIRST")
        limit = f" LIMIT {self.rng.randint(1, 50)}" + self.pick("", f" OFFSET {self.rng.randint(0, 20)}")
        return form("SELECT {0} FROM t{1} ORDER BY c0 " + way + ", c1" + limit, self.named(values), self.where())

    def sorted_alone(self):
        column = self.pick("time", "i", "f", "x")
        return form(
            f"SELECT {column} AS c0 FROM t WHERE {{0}} ORDER BY {column} ASC NULLS LAST", self.boolean()
        )

    def grouped(self):
        keys = [self.value(1) for _ in range(self.rng.randint(0, 2))]
        calls = [self.aggregate() for _ in range(self.rng.randint(1, 3))]
        numbers = ", ".join(str(n + 1) for n in range(len(keys)))
        having = form(" HAVING {0} > 3", self.pick(same("count(*)"), form("sum({0})", self.integer(0)))) \
            if self.chance(0.3) else same("")
        group = f" GROUP BY {numbers}" if keys else ""
        return form("SELECT {0} FROM t{1}" + group + "{2}", self.named(keys + calls), self.where(), having)

    def windowed(self):
        values = [self.column("id")] + [self.window() for _ in range(self.rng.randint(1, 2))]
        return form("SELECT {0} FROM t{1}", self.named(values), self.where())

    def joined(self):
        kind = self.pick("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN")
        on = self.pick("t.device = u.device", "t.device = u.device AND t.i = u.w", "t.i = u.w AND t.f < u.g",
                       "t.f = u.g", "t.x = u.device")
        values = [self.value(1), same("u.w"), same("u.g"), same("t.id")]
        if self.chance(0.5):
            values = [same("u.device"), same("count(*)"), form("sum({0})", self.integer(1)), same("count(t.id)")]
            return form(f"SELECT {{0}} FROM t {kind} u ON {on}{{1}} GROUP BY u.device", self.named(values), self.where())
        return form(f"SELECT {{0}} FROM t {kind} u ON {on}{{1}}", self.named(values), self.where())

    def combined(self):
        makes = [self.pick(self.integer, self.floating, self.text, self.time) for _ in range(self.rng.randint(1, 2))]
        word = self.pick("UNION", "UNION ALL", "EXCEPT", "EXCEPT ALL", "INTERSECT", "INTERSECT ALL")
        sides = [self.named([make(1) for make in makes]) for _ in range(2)]
        where = [self.where(), self.where()]
        return form("SELECT {0} FROM t{1} " + word + " SELECT {2} FROM t{3}", sides[0], where[0], sides[1], where[1])

    def nested(self):
        inner = form("SELECT {0}, t.id AS id FROM t{1}", self.named([self.integer(1), self.floating(1)]), self.where())
        scalar = self.pick("(SELECT max(w) FROM u)", "(SELECT avg(g) FROM u)", "3")
        return form(
            "WITH q AS ({0}) SELECT c0, count(*) AS n, max(c1) AS m FROM q WHERE c0 < " + scalar
            + " OR c1 IS NULL GROUP BY c0", inner,
        )

    def totals(self):
        sets = self.pick("ROLLUP (t.device, t.site)", "CUBE (t.site, t.b)", "GROUPING SETS ((t.device), (t.b, t.site), ())")
        calls = [same("count(*)"), form("sum({0})", self.integer(1)), form("max({0})", self.text(1))]
        keys = [same(f"t.{name}") for name in ("device", "site", "b") if f"t.{name}" in sets]
        return form("SELECT {0} FROM t{1} GROUP BY " + sets, self.named(keys + calls), self.where())

    def correlated(self):
        call = self.pick("max(u.w)", "count(*)", "sum(u.w)", "min(u.g)")
        condition = self.pick("", " AND u.w > 3", " AND u.g IS NOT NULL")
        scalar = same(f"(SELECT {call} FROM u WHERE u.device = t.device{condition})")
        if self.chance(0.4):
            return form("SELECT t.id AS c0 FROM t WHERE {0} " + self.pick("<", "=", ">=") + " {1}", self.integer(1), scalar)
        return form("SELECT {0} FROM t{1}", self.named([self.column("id"), scalar]), self.where())

    def unique(self):
        values = [self.value(1) for _ in range(self.rng.randint(1, 2))]
        return form("SELECT DISTINCT {0} FROM t{1}", self.named(values), self.where())

    def statement(self):
        """Both spellings, whether their rows come in order, whether floats may differ a little."""
        self.loose = False
        shape = self.pick(
            self.plain, self.ordered, self.sorted_alone, self.grouped, self.grouped, self.windowed,
            self.joined, self.combined, self.nested, self.unique, self.totals, self.correlated,
        )
        sql = shape()
        return sql, shape in (self.ordered, self.sorted_alone), self.loose
