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
        kind = self.rng.randrange(13)
        if kind == 9:
            return self.case(depth, self.integer)
        if kind == 10:
            return form("TRY_CAST({0} AS BIGINT)", self.pick(self.digits, self.text)(depth - 1))
        if kind == 11:
            return self.counted_text(depth)
        if kind == 12:
            return self.pick(
                form("({0} & {1})", a, b), form("({0} | {1})", a, b),
                form("CAST({0} AS BIGINT)", self.boolean(depth - 1)), self.days_between(depth),
            )
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
            part = self.pick(
                "year", "month", "day", "hour", "minute", "dow", "doy", "week", "quarter", "isodow", "isoyear",
            )
            return form("CAST(extract(" + part + " FROM {0}) AS BIGINT)", self.time(depth - 1))
        if kind == 6:
            return form(self.pick("greatest", "least") + "({0}, {1})", a, b)
        if kind == 7:
            return form("({0} % nullif({1}, 0))", a, b)
        return form(self.pick("({0} + {1})", "({0} - {1})", "(-{0})", "abs({0})", "nullif({0}, {1})"), a, b)

    def case(self, depth, make):
        """CASE with a value to compare, or several conditions; with and without ELSE."""
        whens = [make(depth - 1) for _ in range(self.rng.randint(1, 3))]
        otherwise = self.pick(same(""), form(" ELSE {0}", make(depth - 1)))
        if self.chance(0.5):
            of = self.pick(self.integer, self.text, self.boolean, self.date)
            head = form("CASE {0}", of(depth - 1))
            arms = [form(" WHEN {0} THEN {1}", of(depth - 1), then) for then in whens]
        else:
            head = same("CASE")
            arms = [form(" WHEN {0} THEN {1}", self.boolean(depth - 1), then) for then in whens]
        shape = "({0}" + "".join(f"{{{n + 1}}}" for n in range(len(arms))) + f"{{{len(arms) + 1}}} END)"
        return form(shape, head, *arms, otherwise)

    def digits(self, depth=1):
        """Texts that are numbers."""
        return self.pick(
            form("CAST({0} AS VARCHAR)", self.integer(max(depth - 1, 0))), self.column("x"),
            same("' 12'"), same("'-7'"), same("'+3'"),
        )

    def counted_text(self, depth):
        a = self.text(depth - 1)
        needle = self.pick("a", "b", "zz", "_", "1")
        return self.pick(
            form(f"strpos({{0}}, '{needle}')", a), form(f"position('{needle}' IN {{0}})", a),
            form("char_length({0})", a), form("ascii({0} || 'q')", a),
        )

    def days_between(self, depth):
        a, b = self.date(depth - 1), self.date(depth - 1)
        return form("(({0}) - ({1}))", a, b)

    def seconds(self, depth):
        """How far two times are from each other."""
        a, b = self.time(depth - 1), self.time(depth - 1)
        return forms("extract(epoch FROM ({0} - {1}))", "((epoch_us({0}) - epoch_us({1})) / 1e6)", a, b)

    def floating(self, depth=2):
        if depth == 0 or self.chance(0.3):
            return self.pick(
                self.column("f"), self.column("f"), same(f"{self.rng.randint(-40, 40) / 4}::double"),
                same("NULL::double"),
            )
        a, b = self.floating(depth - 1), self.floating(depth - 1)
        kind = self.rng.randrange(12)
        if kind == 7:
            return self.case(depth, self.floating)
        if kind == 8:
            return self.seconds(depth)
        if kind == 9:
            return form("CAST(extract(epoch FROM {0}) AS DOUBLE)", self.pick(self.time, self.date)(depth - 1))
        if kind == 10:
            digits = self.rng.randint(0, 2)
            return self.pick(
                form("sqrt(abs({0}))", a), form("trunc({0})", a), form(f"round({{0}}, {digits})", a),
                forms("signum({0})", "sign({0})", a),
                form("greatest({0}, {1})", a, b), form("least({0}, {1})", a, b), form("power({0}, 2)", a),
            )
        if kind == 11:
            return form("TRY_CAST({0} AS DOUBLE)", self.digits(depth - 1))
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
        kind = self.rng.randrange(10)
        n = self.rng.randint(0, 4)
        if kind == 6:
            return self.case(depth, self.text)
        if kind == 7:
            return form(
                self.pick(f"left({{0}}, {n})", f"right({{0}}, {n})", f"lpad({{0}}, {n}, 'xy')", f"rpad({{0}}, {n}, 'xy')",
                          f"repeat({{0}}, {n})", f"split_part({{0}}, 'b', {n + 1})", "ltrim({0}, 'a')", "rtrim({0}, 'b')",
                          "translate({0}, 'ab', 'xy')", f"substr({{0}}, {n + 1})", "regexp_replace({0}, '[ab]+', '-', 'g')"), a,
            )
        if kind == 8:
            return form(self.pick("concat_ws('-', {0}, {1})", "greatest({0}, {1})", "least({0}, {1})", "nullif({0}, {1})"), a, b)
        if kind == 9:
            return form("CAST({0} AS VARCHAR)", self.pick(self.boolean, self.date)(depth - 1))
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
        kind = self.rng.randrange(8)
        if kind == 5:
            return self.case(depth, self.time)
        if kind == 6:
            shape = self.pick("greatest({0}, {1})", "least({0}, {1})", "coalesce({0}, {1})", "nullif({0}, {1})")
            return form(shape, a, self.time(depth - 1))
        if kind == 7:
            return forms("(({0})::timestamp AT TIME ZONE 'UTC')", "CAST({0} AS TIMESTAMP)", self.date(depth - 1))
        if kind == 0:
            unit = self.pick("second", "minute", "hour", "day", "week", "month", "quarter", "year")
            return form("date_trunc('" + unit + "', {0})", a)
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
        if self.chance(0.15):
            return form(self.pick("(CAST({0} AS DATE) + {1})", "(CAST({0} AS DATE) - {1})"), a, same(str(self.rng.randint(0, 40))))
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
        kind = self.rng.randrange(16)
        if kind == 12:
            return self.row_values(depth)
        if kind == 13:
            return self.matched(depth)
        if kind == 14:
            op = self.pick("<", "<=", "=", ">", ">=", "<>")
            width = self.pick("0 seconds", "90 seconds", "25 hours", "1 day", "-1 hour", "1 month", "1 day 2 hours")
            return form("(({0} - {1}) " + op + f" INTERVAL '{width}')", self.time(depth - 1), self.time(depth - 1))
        if kind == 15:
            return self.pick(self.case(depth, self.boolean), form("TRY_CAST({0} AS BOOLEAN)", self.text(0)))
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

    def row_values(self, depth):
        """(a, b) = (c, d), and in a list of rows."""
        makes = [self.pick(self.integer, self.text, self.date) for _ in range(2)]
        rows = [[make(depth - 1) for make in makes] for _ in range(3)]
        row = [form("({0}, {1})", *values) for values in rows]
        # NULL equals NULL in DuckDB's rows.
        equal = [form("({0} = {2} AND {1} = {3})", *rows[0], *other) for other in rows[1:]]
        kind = self.rng.randrange(5)
        if kind == 0:
            return E(f"({row[0].h} = {row[1].h})", equal[0].d)
        if kind == 1:
            return E(f"({row[0].h} <> {row[1].h})", f"(NOT {equal[0].d})")
        if kind == 2:
            op = self.pick("<", "<=", ">", ">=")
            last = form("({0} " + op[0] + " {2} OR ({0} = {2} AND {1} " + op + " {3}))", *rows[0], *rows[1])
            return E(f"({row[0].h} {op} {row[1].h})", last.d)
        negated = "" if kind == 3 else "NOT "
        return E(f"({row[0].h} {negated}IN ({row[1].h}, {row[2].h}))", f"({negated}({equal[0].d} OR {equal[1].d}))")

    def matched(self, depth):
        a = self.text(depth - 1)
        pattern = self.pick("%a%", "s_", "%", "b\\_", "_", "", "A%", "%1", "a", "%%b")
        like = self.pick("LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE")
        return self.pick(
            forms(f"({{0}} {like} '{pattern}')", f"({{0}} {like} '{pattern}' ESCAPE '\\')", a),
            form("starts_with({0}, {1})", a, self.text(0)),
            form("contains({0}, {1})", a, self.text(0)),
            forms("({0} ~ '^[a-d]+.?$')", "regexp_matches({0}, '^[a-d]+.?$')", a),
        )

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
        kind = self.rng.randrange(14)
        if kind == 9:
            call = form(self.pick("min", "max") + "({0})", self.pick(self.date, self.boolean, self.text, self.time)(1))
        elif kind == 10:
            self.loose = True
            at = self.pick("0", "0.25", "0.5", "1")
            call = forms(f"percentile_cont({at}) WITHIN GROUP (ORDER BY {{0}})", f"quantile_cont({{0}}, {at})", self.floating(1))
        elif kind == 11:
            call = form(
                self.pick("string_agg({0}, ',' ORDER BY t.id)", "string_agg({0}, '' ORDER BY t.id)"), self.text(1)
            )
        elif kind == 12:
            call = form(self.pick("bit_and", "bit_or", "bit_xor") + "({0})", self.integer(1))
        elif kind == 13:
            self.loose = True
            name = self.pick("covar_pop", "covar_samp", "stddev_pop", "var_samp", "regr_count")
            call = form(name + ("({0}, {1})" if name[0] in "cr" else "({0})"), self.floating(0), self.floating(0))
        elif kind == 0:
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
        kind = self.rng.randrange(13)
        if kind == 8:
            whole = f" OVER ({parts}{order})"
            self.loose = True
            call = same(self.pick("percent_rank()", "cume_dist()", f"ntile({self.rng.randint(1, 7)})") + whole)
        elif kind == 9:
            # Equal keys are peers.
            ties = self.pick("t.i", "t.site", "t.b") + self.pick(" ASC NULLS LAST", " DESC NULLS LAST", " ASC NULLS FIRST")
            name = self.pick("rank()", "dense_rank()", "sum(t.id)", "count(t.x)", "max(t.x)", "min(t.time)", "cume_dist()")
            frame = "" if "rank" in name or "dist" in name else self.pick(
                "", " RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING", " GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW",
                " GROUPS BETWEEN 1 FOLLOWING AND 2 FOLLOWING", " RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
            )
            self.loose = True
            call = same(f"{name} OVER ({parts}ORDER BY {ties}{frame})")
        elif kind == 10:
            low, high = self.rng.randint(0, 4), self.rng.randint(0, 4)
            frame = f"RANGE BETWEEN {low} PRECEDING AND {high} FOLLOWING"
            call = form(
                self.pick("sum", "count", "max", "min") + f"({{0}}) OVER ({parts}ORDER BY t.id{descending} {frame})",
                self.integer(1),
            )
        elif kind == 11:
            call = form(
                self.pick("sum", "count", "max") + "({0}) FILTER (WHERE {1})" + over, self.integer(1), self.boolean(1),
            )
        elif kind == 12:
            call = form(
                self.pick(f"nth_value({{0}}, {self.rng.randint(1, 3)})" + over, "lag({0}, 2, {1})" + f" OVER ({parts}{order})",
                          "lead({0}, 1, {1})" + f" OVER ({parts}{order})"), self.integer(1), same("-99"),
            )
        elif kind == 6:
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

    def top(self):
        """Groups in the order of their key."""
        key, way = self.pick("device", "site", "b", "x"), self.pick("ASC NULLS LAST", "DESC NULLS LAST", "ASC NULLS FIRST")
        calls = [self.aggregate() for _ in range(2)]
        limit = self.pick("", f" LIMIT {self.rng.randint(0, 5)}", f" LIMIT 3 OFFSET {self.rng.randint(0, 4)}")
        return form(
            "SELECT {0} FROM t{1} GROUP BY t." + key + " ORDER BY c0 " + way + limit,
            self.named([self.column(key)] + calls), self.where(),
        )

    def newest(self):
        """One row of each: DISTINCT ON, QUALIFY, a subquery with row_number."""
        key = self.pick("device", "site", "b")
        order = self.pick("t.id", "t.time DESC, t.id", "t.x NULLS LAST, t.id DESC", "t.i DESC NULLS LAST, t.id")
        values = self.named([self.column("id"), self.value(1)])
        kind = self.rng.randrange(3)
        if kind == 0:
            return form(f"SELECT DISTINCT ON (t.{key}) {{0}} FROM t{{1}} ORDER BY t.{key}, {order}", values, self.where())
        rank = f"{self.pick('row_number', 'rank')}() OVER (PARTITION BY t.{key} ORDER BY {order})"
        if kind == 1:
            return form(f"SELECT {{0}} FROM t{{1}} QUALIFY {rank} <= 2", values, self.where())
        return form(f"SELECT c0, c1 FROM (SELECT {{0}}, {rank} AS place FROM t{{1}}) AS q WHERE place < 3", values, self.where())

    def chained(self):
        """WITH upon WITH, joined with itself or in a union."""
        values = self.named([self.column("id"), self.integer(1), self.text(1)])
        first = form("SELECT {0}, t.device AS device FROM t{1}", values, self.where())
        second = "SELECT device, count(*) AS n, max(c1) AS m, min(c2) AS l FROM q GROUP BY device"
        last = self.pick(
            "SELECT q.c0, r.n, r.l FROM q JOIN r USING (device) WHERE q.c1 = r.m",
            "SELECT q.c0, r.n FROM q LEFT JOIN r ON q.device = r.device AND q.c1 < r.m AND r.n > 100",
            "SELECT device, n FROM r UNION ALL SELECT c2, c1 FROM q WHERE c1 > 3",
            "SELECT a.device, b.device AS other FROM r AS a JOIN r AS b ON a.m <= b.m AND a.n < b.n",
            "SELECT device, m FROM r WHERE n >= (SELECT avg(n) FROM r) OR l IN (SELECT c2 FROM q WHERE c1 IS NULL)",
            "SELECT count(*) AS n FROM q CROSS JOIN r WHERE q.c1 IS DISTINCT FROM r.m",
            "SELECT device, sum(n) OVER (ORDER BY device) AS s FROM r",
            "SELECT c0 FROM q WHERE EXISTS (SELECT 1 FROM r WHERE r.device = q.device AND r.m > q.c1)",
            "SELECT c0 FROM q WHERE NOT EXISTS (SELECT 1 FROM r WHERE r.device = q.device AND r.l = q.c2)",
            "SELECT c1, c2 FROM q EXCEPT SELECT m, l FROM r", "SELECT c2 FROM q INTERSECT SELECT l FROM r",
        )
        return form("WITH q AS ({0}), r AS (" + second + ") " + last, first)

    def grouped_windows(self):
        """Windows over groups."""
        call = self.pick("sum(count(*))", "max(sum(t.i))", "rank()", "lag(max(t.x))", "sum(max(t.id))", "count(min(t.f))")
        parts = self.pick("", "PARTITION BY t.site ")
        return form(
            f"SELECT t.site AS c0, t.device AS c1, {call} OVER ({parts}ORDER BY t.device, t.site NULLS LAST) AS c2, {{0}} AS c3"
            " FROM t{1} GROUP BY t.site, t.device", self.aggregate(), self.where(),
        )

    def combined_in_order(self):
        word = self.pick("UNION", "UNION ALL", "EXCEPT", "INTERSECT")
        sides = [form("SELECT t.id AS c0, {0} AS c1 FROM t{1}", self.integer(1), self.where()) for _ in range(2)]
        way = self.pick("c0, c1 NULLS LAST", "c0 DESC, c1 NULLS FIRST", "c1 DESC NULLS LAST, c0")
        return form("{0} " + word + " {1} ORDER BY " + way + f" LIMIT {self.rng.randint(1, 200)}", *sides)

    def unique(self):
        values = [self.value(1) for _ in range(self.rng.randint(1, 2))]
        return form("SELECT DISTINCT {0} FROM t{1}", self.named(values), self.where())

    def statement(self):
        """Both spellings, whether their rows come in order, whether floats may differ a little."""
        self.loose = False
        shape = self.pick(
            self.plain, self.ordered, self.sorted_alone, self.grouped, self.grouped, self.windowed,
            self.joined, self.combined, self.nested, self.unique, self.totals, self.correlated, self.top, self.newest,
            self.chained, self.grouped_windows, self.combined_in_order,
        )
        sql = shape()
        return sql, shape in (self.ordered, self.sorted_alone, self.top, self.combined_in_order), self.loose
