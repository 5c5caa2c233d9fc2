//! CSV's grammar: lines of cells, with quotes as RFC 4180 has them. Cells are borrowed from the
//! payload where they can be. Pure; must never panic on any text, nor lose whether a cell was
//! quoted.

use std::borrow::Cow;

/// One cell: in quotes as it is, else without the blanks around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) quoted: bool,
}

impl Cell<'_> {
    /// Whether there is no value at all: an empty text has quotes.
    pub(super) fn is_null(&self) -> bool {
        self.text.is_empty() && !self.quoted
    }
}

/// What is wrong with a line, counted from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: usize,
    pub(super) reason: &'static str,
}

/// Reads a text line by line; those without anything are passed over.
#[derive(Clone, Debug)]
pub(super) struct Lines<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            line: 1,
        }
    }

    /// Puts the cells of the next line into `cells`; its number, or none at the end.
    pub(super) fn next(&mut self, cells: &mut Vec<Cell<'a>>) -> Result<Option<usize>, Fault> {
        cells.clear();
        loop {
            self.skip_blanks();
            if self.rest.is_empty() {
                return Ok(None);
            }
            if !self.end_of_line() {
                break;
            }
        }
        let line = self.line;
        loop {
            cells.push(self.cell()?);
            if let Some(rest) = self.rest.strip_prefix(',') {
                self.rest = rest;
                continue;
            }
            if self.rest.is_empty() || self.end_of_line() {
                return Ok(Some(line));
            }
            return Err(self.fault("there is text behind the closing quote of a cell"));
        }
    }

    fn cell(&mut self) -> Result<Cell<'a>, Fault> {
        self.skip_blanks();
        if let Some(inner) = self.rest.strip_prefix('"') {
            let text = self.quoted(inner)?;
            self.skip_blanks();
            return Ok(Cell { text, quoted: true });
        }
        let end = self.rest.find([',', '\n', '\r']);
        let (text, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        Ok(Cell {
            text: Cow::Borrowed(text.trim()),
            quoted: false,
        })
    }

    /// What is before the closing quote; two quotes are one that is meant.
    fn quoted(&mut self, inner: &'a str) -> Result<Cow<'a, str>, Fault> {
        let mut text = Cow::Borrowed("");
        let mut rest = inner;
        loop {
            let Some((part, behind)) = rest.split_once('"') else {
                return Err(self.fault("the quote of a cell is never closed"));
            };
            self.line += part.matches('\n').count();
            if text.is_empty() {
                text = Cow::Borrowed(part);
            } else {
                text.to_mut().push_str(part);
            }
            let Some(more) = behind.strip_prefix('"') else {
                self.rest = behind;
                return Ok(text);
            };
            text.to_mut().push('"');
            rest = more;
        }
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn end_of_line(&mut self) -> bool {
        let ends = ["\r\n", "\n", "\r"];
        match ends.iter().find_map(|end| self.rest.strip_prefix(end)) {
            Some(rest) => {
                self.rest = rest;
                self.line += 1;
                true
            }
            None => false,
        }
    }

    fn fault(&self, reason: &'static str) -> Fault {
        let line = self.line;
        Fault { line, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = Result<Vec<(usize, Vec<String>)>, Fault>;

    /// Cells that were quoted stand between angle brackets.
    fn read(text: &str) -> Read {
        let (mut lines, mut cells, mut out) = (Lines::new(text), Vec::new(), Vec::new());
        while let Some(line) = lines.next(&mut cells)? {
            let shown = cells.iter().map(|cell| match cell.quoted {
                true => format!("<{}>", cell.text),
                false => cell.text.to_string(),
            });
            out.push((line, shown.collect()));
        }
        Ok(out)
    }

    fn told(text: &str) -> Vec<(usize, String)> {
        let read = read(text).expect("reads").into_iter();
        read.map(|(line, cells)| (line, cells.join("|"))).collect()
    }

    #[test]
    fn cells_are_quoted_or_not_and_lines_counted() {
        let line = |line, cells: &str| (line, cells.to_owned());
        assert_eq!(
            told("a, b ,\"c\"\n\n1,\"x,\n\"\"y\"\"\", \" z \" \r\n \t\r,\"\",\r\n,"),
            [
                line(1, "a|b|<c>"),
                line(3, "1|<x,\n\"y\">|< z >"),
                line(6, "|<>|"),
                line(7, "|"),
            ]
        );
        assert_eq!(told("5\" pipe,x\"y\"\n"), [line(1, "5\" pipe|x\"y\"")]);
        assert_eq!(told(""), []);
        assert_eq!(told("\"\"\"\"\n"), [line(1, "<\">")]);
        let fault = |line, reason| Err(Fault { line, reason });
        assert_eq!(
            read("a\n\"b"),
            fault(2, "the quote of a cell is never closed")
        );
        assert_eq!(
            read("a\n\"b\"c"),
            fault(2, "there is text behind the closing quote of a cell")
        );
    }

    #[test]
    fn what_a_program_writes_is_read_back() {
        let seed = fastrand::u64(..);
        println!("seed={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..5_000 {
            let width = random.usize(2..5);
            let letters = ['a', 'b', ',', ' ', '"', '\n', '\r', '\t', 'é', '\\'];
            let mut cell = || -> String {
                let len = random.usize(..6);
                let letter = |_| letters[random.usize(..letters.len())];
                (0..len).map(letter).collect()
            };
            let rows: Vec<Vec<String>> = (0..4)
                .map(|_| (0..width).map(|_| cell()).collect())
                .collect();
            let quoted = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
            let lines = rows
                .iter()
                .map(|row| row.iter().map(quoted).collect::<Vec<_>>().join(","));
            let text = lines.collect::<Vec<_>>().join("\r\n");
            let (mut lines, mut cells) = (Lines::new(&text), Vec::new());
            for row in &rows {
                assert!(lines.next(&mut cells).expect("reads").is_some(), "{text}");
                let read: Vec<&str> = cells.iter().map(|cell| &*cell.text).collect();
                assert_eq!(read, *row, "{text}");
                assert!(cells.iter().all(|cell| cell.quoted));
            }
            assert_eq!(lines.next(&mut cells), Ok(None), "{text}");
        }
    }
}
