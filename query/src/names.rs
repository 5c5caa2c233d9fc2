//! Names beside each other: suggestions for mistyped ones, and others for equal ones. Owns the notion
//! of "near"; must never decide what a name means.

use std::collections::HashSet;

/// The known name nearest to `wanted`, if any shares at least half of its letters.
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    known
        .into_iter()
        .map(|name| {
            let distance = strsim::damerau_levenshtein(&wanted, &name.to_lowercase());
            (
                distance,
                wanted.chars().count().max(name.chars().count()),
                name,
            )
        })
        .filter(|(distance, longest, _)| distance * 2 <= *longest)
        .min_by_key(|(distance, _, _)| *distance)
        .map(|(_, _, name)| name)
}

/// `name`, or `name_2`, `name_3` … where it is taken; it is then.
pub(crate) fn unlike(name: &str, taken: &mut HashSet<String>) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2;
    while !taken.insert(candidate.clone()) {
        candidate = format!("{name}_{number}");
        number += 1;
    }
    candidate
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_a_typo_and_refuses_a_stranger() {
        let known = ["format", "params", "min_lsn"];
        assert_eq!(nearest("fromat", known), Some("format"));
        assert_eq!(nearest("MIN_LSN", known), Some("min_lsn"));
        assert_eq!(nearest("zzzzzzzz", known), None);
        assert_eq!(nearest("x", []), None);
    }
}
