//! Random predicates over the columns of `world`. Must never be ones that the planner may refuse.

use fastrand::Rng;

use crate::world::TEXTS;

/// One predicate, at most `depth` deep.
pub(crate) fn predicate(rng: &mut Rng, depth: u8) -> String {
    if depth == 0 {
        return simple(rng);
    }
    let mut inner = || predicate(rng, depth - 1);
    let (left, right) = (inner(), inner());
    match rng.u8(..9) {
        0..=2 => format!("({left} AND {right})"),
        3 | 4 => format!("({left} OR {right})"),
        5 => format!("NOT ({left})"),
        6 => {
            let other = simple(rng);
            format!("CASE WHEN {left} THEN {right} ELSE {other} END")
        }
        7 => {
            let test = pick(rng, &["IS TRUE", "IS NOT FALSE", "IS NULL", "IS NOT NULL"]);
            format!("({left}) {test}")
        }
        _ => format!("({left}) IS DISTINCT FROM ({right})"),
    }
}

fn simple(rng: &mut Rng) -> String {
    match rng.u8(..12) {
        0..=3 => {
            let (value, literals) = moment(rng);
            compared(rng, &value, literals)
        }
        4 => date_function(rng),
        5 => {
            let tag = pick(rng, TAGS);
            compared(rng, tag, texts)
        }
        6 => {
            let number = pick(rng, INTEGERS);
            compared(rng, number, integers)
        }
        7 => {
            let number = pick(rng, FLOATS);
            compared(rng, number, floats)
        }
        8 => {
            let text = pick(rng, FIELDS);
            compared(rng, text, texts)
        }
        9 => pick(rng, BOOLEANS).to_owned(),
        10 => pick(rng, ODD_ONES).to_owned(),
        _ => pick(rng, CONSTANTS).to_owned(),
    }
}

/// A time or a date, and what it may be compared with.
fn moment(rng: &mut Rng) -> (String, fn(&mut Rng) -> String) {
    let zone = zone(rng);
    let unit = pick(rng, &["second", "minute", "hour", "day", "week", "month"]);
    let width = pick(
        rng,
        &["1 second", "7 minutes", "1 hour", "1 day", "1 month"],
    );
    let precision = pick(rng, &["0", "3", "6", "9"]);
    let times = [
        "time".to_owned(),
        "time::timestamp".to_owned(),
        format!("time AT TIME ZONE '{zone}'"),
        format!("time::timestamp AT TIME ZONE '{zone}'"),
        // Each zone moves it further.
        "((time::timestamp AT TIME ZONE '+23:00')::timestamp AT TIME ZONE '+23:00')::timestamp \
         AT TIME ZONE '+23:00'"
            .to_owned(),
        format!("time AT TIME ZONE '{zone}' AT TIME ZONE '-23:00' AT TIME ZONE '{zone}'"),
        "time AT TIME ZONE '+23:00' AT TIME ZONE '-23:00' AT TIME ZONE '+14:00'".to_owned(),
        format!("(time AT TIME ZONE '{zone}')::timestamp"),
        format!("CAST(time AS TIMESTAMP({precision}))"),
        format!("CAST(time::timestamp AT TIME ZONE '{zone}' AS TIMESTAMP({precision}))"),
        format!("CAST(time AT TIME ZONE '{zone}' AS TIMESTAMP({precision}))"),
        format!("date_trunc('{unit}', time)"),
        format!("date_trunc('{unit}', time AT TIME ZONE '{zone}')"),
        format!("date_bin(INTERVAL '{width}', time)"),
        format!("time + INTERVAL '{width}'"),
        format!("time - INTERVAL '{width}'"),
        "to_timestamp(time)".to_owned(),
        "time::date::timestamp".to_owned(),
    ];
    let dates = [
        "time::date".to_owned(),
        format!("(time AT TIME ZONE '{zone}')::date"),
        format!("(time::timestamp AT TIME ZONE '{zone}')::date"),
        "((time::timestamp AT TIME ZONE '-23:00')::timestamp AT TIME ZONE '-23:00')::date"
            .to_owned(),
        format!("(time AT TIME ZONE '+23:00' AT TIME ZONE '-23:00' AT TIME ZONE '{zone}')::date"),
        format!("date_trunc('{unit}', time)::date"),
        "TRY_CAST(time AS DATE)".to_owned(),
        "to_local_time(time AT TIME ZONE 'America/New_York')::date".to_owned(),
    ];
    if rng.u8(..3) == 0 {
        (dates[rng.usize(..dates.len())].clone(), day_literals)
    } else {
        (times[rng.usize(..times.len())].clone(), time_literals)
    }
}

fn date_function(rng: &mut Rng) -> String {
    let zone = zone(rng);
    let of = [
        "time".to_owned(),
        format!("time AT TIME ZONE '{zone}'"),
        format!("time::timestamp AT TIME ZONE '{zone}'"),
    ];
    let of = &of[rng.usize(..of.len())];
    let part = pick(
        rng,
        &[
            "hour", "day", "month", "dow", "doy", "minute", "year", "epoch",
        ],
    );
    let op = op(rng);
    let value = match part {
        "epoch" => rng.i64(1_772_000_000..1_794_300_000),
        "year" => rng.i64(2025..2028),
        _ => rng.i64(0..32),
    };
    format!("extract({part} FROM {of}) {op} {value}")
}

fn compared(rng: &mut Rng, value: &str, literal: fn(&mut Rng) -> String) -> String {
    let (low, high) = (literal(rng), literal(rng));
    let not = pick(rng, &["", "", "NOT "]);
    match rng.u8(..10) {
        0..=5 => format!("{value} {} {low}", op(rng)),
        6 => format!("{low} {} {value}", op(rng)),
        7 => format!("{value} {not}BETWEEN {low} AND {high}"),
        8 => format!("{value} {not}IN ({low}, {high}, {})", literal(rng)),
        _ => format!("{value} IS {not}DISTINCT FROM {low}"),
    }
}

fn op(rng: &mut Rng) -> &'static str {
    pick(rng, &["=", "<>", "<", "<=", ">", ">="])
}

fn zone(rng: &mut Rng) -> &'static str {
    pick(
        rng,
        &[
            "America/New_York",
            "Europe/Berlin",
            "Asia/Kolkata",
            "Pacific/Kiritimati",
            "Etc/GMT+12",
            "+05:30",
            "UTC",
        ],
    )
}

fn day(rng: &mut Rng) -> &'static str {
    pick(
        rng,
        &[
            "2026-11-01",
            "2026-11-05",
            "2026-11-06",
            "2026-10-25",
            "2026-03-08",
            "2026-11-02",
        ],
    )
}

fn clock(rng: &mut Rng) -> &'static str {
    pick(
        rng,
        &[
            "00:00:00",
            "05:00:00",
            "04:30:00",
            "12:00:00",
            "23:59:59.999999999",
            "18:30:00",
        ],
    )
}

fn time_literals(rng: &mut Rng) -> String {
    let (day, clock, zone) = (day(rng), clock(rng), zone(rng));
    match rng.u8(..6) {
        0 | 1 => format!("'{day}T{clock}Z'"),
        2 => format!("'{day}'"),
        3 => format!("TIMESTAMP '{day} {clock}'"),
        4 => format!("TIMESTAMP '{day} {clock}' AT TIME ZONE '{zone}'"),
        _ => format!("DATE '{day}'"),
    }
}

fn day_literals(rng: &mut Rng) -> String {
    format!("DATE '{}'", day(rng))
}

fn texts(rng: &mut Rng) -> String {
    match rng.u8(..3) {
        0 => format!("'s{}'", rng.u8(..5)),
        1 => format!("'d{}'", rng.u8(..12)),
        _ => format!("'{}'", pick(rng, TEXTS)),
    }
}

fn integers(rng: &mut Rng) -> String {
    match rng.u8(..8) {
        0 => "NULL".to_owned(),
        1 => format!("{}.5", rng.i32(-20..20)),
        _ => rng.i32(-20..=20).to_string(),
    }
}

fn floats(rng: &mut Rng) -> String {
    match rng.u8(..8) {
        0 => "NULL".to_owned(),
        1 => "-0.0".to_owned(),
        2 => "'NaN'::double".to_owned(),
        _ => format!("{:?}", f64::from(rng.i32(-40..=40)) / 4.0),
    }
}

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.usize(..from.len())]
}

const TAGS: &[&str] = &["site", "device", "upper(device)", "site || device"];

const INTEGERS: &[&str] = &[
    "i",
    "i + 1",
    "i * 2",
    "-i",
    "i / 3",
    "i % 4",
    "CAST(f AS BIGINT)",
    "abs(i)",
];

const FLOATS: &[&str] = &[
    "f",
    "f * 0.5",
    "-f",
    "f / 3",
    "CAST(i AS DOUBLE)",
    "round(f)",
    "f + i",
];

const FIELDS: &[&str] = &[
    "x",
    "CAST(i AS VARCHAR)",
    "coalesce(x, site)",
    "concat(x, i)",
];

const BOOLEANS: &[&str] = &[
    "b",
    "NOT b",
    "b IS NULL",
    "b = (i > 0)",
    "coalesce(b, f > 1)",
];

const ODD_ONES: &[&str] = &[
    "x LIKE '%a%'",
    "x IS NULL",
    "site IS NULL",
    "i BETWEEN f AND 10",
    "1 IN (CASE WHEN b THEN NULL ELSE i END, NULL)",
    "TRY_CAST(x AS DOUBLE) > 1",
    "TRY_CAST(x AS DATE) = '2026-11-01'",
    "time IN (SELECT time FROM t WHERE i > 18)",
    "device NOT IN (SELECT site FROM t WHERE i > 10)",
    "i NOT IN (SELECT i FROM t WHERE i > 17 AND i IS NOT NULL)",
    "EXISTS (SELECT 1 FROM t AS o WHERE o.device = t.device AND o.i = 20)",
];

const CONSTANTS: &[&str] = &["true", "false", "NULL", "1 = 1", "i = i", "time = time"];
