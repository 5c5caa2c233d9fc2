//! What answers do not tell: where on its machine a node keeps its files. Must never change a text
//! that names none of these places.

use std::path::Path;

/// Places, and what is said instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hidden(Vec<(String, &'static str)>);

impl Hidden {
    /// Hides these places, however they are written.
    pub(crate) fn new<'a>(places: impl IntoIterator<Item = (&'a Path, &'static str)>) -> Self {
        let mut hidden = Vec::new();
        for (path, word) in places {
            let absolute = std::path::absolute(path).ok();
            let real = std::fs::canonicalize(path).ok();
            for found in [absolute, real].into_iter().flatten() {
                let text = found.to_string_lossy().trim_end_matches('/').to_owned();
                if !text.is_empty() {
                    hidden.push((text, word));
                }
            }
        }
        // A place in another is not left half said.
        hidden.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        hidden.dedup();
        Self(hidden)
    }

    /// The text without them.
    pub(crate) fn hide(&self, mut text: String) -> String {
        for (place, word) in &self.0 {
            if text.contains(place.as_str()) {
                text = text.replace(place.as_str(), word);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_by_what_they_are() {
        let dir = tempfile::tempdir().expect("a directory");
        let (data, certs) = (dir.path().join("data"), dir.path().join("data/certs"));
        let places = [
            (data.as_path(), "node.data_dir"),
            (&certs, "replication.certs"),
        ];
        let hidden = Hidden::new(places);
        let text = format!(
            "cannot read {}/log-1/0.log: odd; {}",
            data.display(),
            certs.display()
        );
        let expected = "cannot read node.data_dir/log-1/0.log: odd; replication.certs";
        assert_eq!(hidden.hide(text), expected);
        assert_eq!(hidden.hide("/a/b".to_owned()), "/a/b");
        assert_eq!(
            Hidden::new([(Path::new("/"), "x")]).hide("/a".to_owned()),
            "/a"
        );
    }
}
