//! What a client can take: the negotiation of `Accept` and `Accept-Encoding`. Must never give what
//! a client has refused, but for bytes that are not compressed.

use query::{Coding, Format};

/// The format that an `Accept` header likes best; `None` where it takes none of ours.
pub(crate) fn format(accept: &str) -> Option<Format> {
    let ranges = weighted(accept);
    if ranges.is_empty() {
        return Some(Format::default());
    }
    let mut best: Option<(Choice, Format)> = None;
    for (media, format) in Format::media_types() {
        let Some(choice) = choice(&ranges, media) else {
            continue;
        };
        if best.is_none_or(|(known, _)| choice.is_better_than(known)) {
            best = Some((choice, format));
        }
    }
    best.map(|(_, format)| format)
}

/// The coding that an `Accept-Encoding` header likes best; `None` for none at all.
pub(crate) fn coding(accept: &str) -> Option<Coding> {
    let ranges = weighted(accept);
    let weight = |names: &[&str]| {
        let named = ranges
            .iter()
            .find(|range| names.contains(&range.name.as_str()));
        let any = || ranges.iter().find(|range| range.name == "*");
        named.or_else(any).map_or(0, |range| range.weight)
    };
    let identity = ranges.iter().find(|range| range.name == "identity");
    let identity = identity.map_or(1, |range| range.weight);
    let offered = [
        (Coding::Zstd, weight(&["zstd"])),
        (Coding::Gzip, weight(&["gzip", "x-gzip"])),
    ];
    let mut best = None;
    for (coding, weight) in offered {
        if weight > 0 && weight >= identity && best.is_none_or(|(_, known)| weight > known) {
            best = Some((coding, weight));
        }
    }
    best.map(|(coding, _)| coding)
}

/// One of the things that a header lists.
#[derive(Debug)]
struct Range {
    /// In lower case, without parameters.
    name: String,
    /// In thousandths.
    weight: u32,
}

/// What a header lists, in order. What is malformed is left out.
fn weighted(header: &str) -> Vec<Range> {
    let items = header.split(',').filter_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next()?.to_ascii_lowercase();
        let mut weight = 1_000;
        for parameter in parts {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if key.trim().eq_ignore_ascii_case("q") {
                weight = thousandths(value.trim())?;
            }
        }
        (!name.is_empty()).then_some(Range { name, weight })
    });
    items.collect()
}

fn thousandths(text: &str) -> Option<u32> {
    let weight: f64 = text.parse().ok()?;
    let sane = (0.0..=1.0).contains(&weight);
    sane.then(|| (weight * 1_000.0).round() as u32)
}

/// How a media type fares: by its weight, then by whether it is named, then by where.
#[derive(Debug, Clone, Copy)]
struct Choice {
    weight: u32,
    specificity: u8,
    place: usize,
}

impl Choice {
    fn is_better_than(self, other: Self) -> bool {
        let rank = |choice: Self| {
            let place = std::cmp::Reverse(choice.place);
            (choice.weight, choice.specificity, place)
        };
        rank(self) > rank(other)
    }
}

/// The most specific range decides on a media type.
fn choice(ranges: &[Range], media: &str) -> Option<Choice> {
    let (kind, _) = media.split_once('/')?;
    let matches = ranges.iter().enumerate().filter_map(|(place, range)| {
        let specificity = if range.name == media {
            2
        } else if range.name.strip_suffix("/*") == Some(kind) {
            1
        } else if range.name == "*/*" || range.name == "*" {
            0
        } else {
            return None;
        };
        Some(Choice {
            weight: range.weight,
            specificity,
            place,
        })
    });
    let deciding = matches.max_by_key(|choice| choice.specificity)?;
    (deciding.weight > 0).then_some(deciding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_weight_wins_and_zero_refuses() {
        for (accept, expected) in [
            ("", Some(Format::Json)),
            ("*/*", Some(Format::Json)),
            ("text/csv;q=0, application/json", Some(Format::Json)),
            ("application/json;q=0, */*", Some(Format::JsonLines)),
            ("application/json;q=0.5, text/csv;q=0.9", Some(Format::Csv)),
            ("text/csv, application/json", Some(Format::Csv)),
            ("application/json, text/plain, */*", Some(Format::Json)),
            (
                "text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8",
                Some(Format::Json),
            ),
            ("text/*", Some(Format::Csv)),
            ("application/*;q=0.2, text/plain;q=0.1", Some(Format::Json)),
            ("*/*, text/csv;q=0.1", Some(Format::Json)),
            ("application/x-ndjson", Some(Format::JsonLines)),
            ("Text/CSV; charset=utf-8; Q=1.0", Some(Format::Csv)),
            ("application/vnd.apache.parquet", Some(Format::Parquet)),
            ("application/xml", None),
            ("image/png, */*;q=0", None),
            ("text/csv;q=0", None),
            ("text/csv;q=many", Some(Format::Json)),
        ] {
            assert_eq!(format(accept), expected, "{accept}");
        }
    }

    #[test]
    fn codings_are_weighed_and_none_is_always_allowed() {
        for (accept, expected) in [
            ("", None),
            ("gzip", Some(Coding::Gzip)),
            ("gzip, deflate, br", Some(Coding::Gzip)),
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("zstd;q=0.5, gzip;q=0.8", Some(Coding::Gzip)),
            ("*", Some(Coding::Zstd)),
            ("zstd;q=0, *", Some(Coding::Gzip)),
            ("identity", None),
            ("identity;q=1, gzip;q=0.5", None),
            ("gzip;q=0", None),
            ("br", None),
            ("X-GZIP", Some(Coding::Gzip)),
        ] {
            assert_eq!(coding(accept), expected, "{accept}");
        }
    }
}
