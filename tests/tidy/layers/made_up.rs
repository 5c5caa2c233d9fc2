//! The checker against crates of a few lines that are made up. Must never read the checkout.

use std::collections::BTreeMap;

use super::complaints;

/// What is wrong with such files, in order of `low`, `middle` and `high`.
fn wrong(files: &[(&str, &str)]) -> Vec<String> {
    let sources: BTreeMap<String, String> = files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect();
    complaints(&[&["low"], &["middle"], &["high"]], &sources)
}

const ROOT: (&str, &str) = (
    "lib.rs",
    "mod low; mod middle; mod high; pub use high::Top;",
);

#[test]
fn downwards_is_right_and_upwards_is_not() {
    let right = [
        ROOT,
        ("low.rs", "pub struct Low;"),
        ("middle/mod.rs", "mod part; pub use part::Part;"),
        (
            "middle/part.rs",
            "use crate::low::Low; pub struct Part(Low);",
        ),
        (
            "high.rs",
            "use crate::{low, middle::{self, Part}}; pub struct Top(Part, low::Low);",
        ),
    ];
    assert_eq!(wrong(&right), [""; 0]);
    for (low, path) in [
        ("use crate::high::Top;", "crate::high::Top"),
        ("use crate::{high::{Top as Other}};", "crate::high::Top"),
        ("fn f() { super::high::g() }", "super::high::g"),
        ("use crate::Top;", "crate::Top"),
        (
            "mod inside { use super::super::high::Top; }",
            "super::super::high::Top",
        ),
        ("pub use crate::high::*;", "crate::high"),
        (
            "macro_rules! m { () => { $crate::high::g() } }",
            "crate::high::g",
        ),
    ] {
        let mut files = right;
        files[1].1 = low;
        let expected = format!("low names high upwards: {path}");
        let wrong = wrong(&files);
        assert_eq!(wrong.first(), Some(&expected), "{low}: {wrong:?}");
    }
}

#[test]
fn comments_texts_and_tests_name_nothing() {
    let low = r##"
        //! See crate::high::Top.
        /* use crate::high::Top; /* crate::high */ */
        const A: &str = "crate::high::Top \" crate::high";
        const B: &str = r#"use crate::high::Top"; "#;
        const C: (char, u8) = ('"', b'\'');
        fn lifetime<'a>(a: &'a str) -> &'a str { a }
        #[cfg(test)]
        use crate::high::Top;
        #[cfg(test)]
        mod tests { use crate::high::Top; fn f() { crate::high::g() } }
        #[cfg(test)]
        mod more;
    "##;
    let files = [
        ROOT,
        ("low.rs", low),
        ("low/more.rs", "use crate::high::Top;"),
        ("middle.rs", ""),
        ("high.rs", "pub struct Top;"),
    ];
    assert_eq!(wrong(&files), [""; 0]);
}

#[test]
fn a_circle_is_found_through_re_exports_and_inside_a_group() {
    let files = [
        ROOT,
        ("low.rs", ""),
        (
            "middle/mod.rs",
            "mod one; mod two; mod three; pub use one::One; pub use three::*;",
        ),
        (
            "middle/one.rs",
            "use super::two::Two; pub struct One; impl One { fn f(_: Two) {} }",
        ),
        ("middle/two.rs", "use super::Three; pub struct Two(Three);"),
        (
            "middle/three.rs",
            "pub struct Three; fn f(_: crate::middle::One) {}",
        ),
        ("high.rs", "pub struct Top;"),
    ];
    assert_eq!(
        wrong(&files),
        ["circle: middle::one -> middle::two -> middle::three -> middle::one"]
    );
}

#[test]
fn handing_on_is_no_circle_but_using_what_is_handed_on_is() {
    let mut files = [
        ROOT,
        ("low.rs", ""),
        (
            "middle/mod.rs",
            "mod part; pub use part::Part; pub struct Whole;",
        ),
        (
            "middle/part.rs",
            "use super::Whole; pub struct Part(Whole);",
        ),
        ("high.rs", "pub struct Top;"),
    ];
    assert_eq!(wrong(&files), [""; 0]);
    files[2].1 = "mod part; pub use part::Part; pub struct Whole; fn f(_: Part) {}";
    assert_eq!(wrong(&files), ["circle: middle -> middle::part -> middle"]);
}

#[test]
fn what_has_no_layer_and_what_is_not_there_is_told() {
    let files = [
        ("lib.rs", "mod low; mod high; mod other;"),
        ("low.rs", ""),
        ("high.rs", ""),
        ("other.rs", ""),
    ];
    assert_eq!(
        wrong(&files),
        ["middle has a layer and is not there", "other has no layer"]
    );
}
