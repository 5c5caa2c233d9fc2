//! What one file says about others: the modules it declares, what it imports, the paths it names,
//! and what it defines. Must never read a file.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::{Token, tokens, without_tests};

/// A path or the name of a module: its segments.
pub(crate) type Path = Vec<String>;

/// A name that a file brings in.
#[derive(Clone, Debug)]
pub(crate) struct Import {
    /// The module inside the file, mostly the file itself.
    pub(crate) within: Path,
    /// What it stands for.
    pub(crate) path: Path,
    /// What it is called there; `*` for everything.
    pub(crate) name: String,
    /// Whether others see it: a re-export.
    pub(crate) public: bool,
}

/// One file without its tests.
#[derive(Debug, Default)]
pub(crate) struct Module {
    /// Modules of their own files, by the module inside this one that declares them.
    pub(crate) children: Vec<(Path, String)>,
    /// Modules inside this file.
    pub(crate) inline: BTreeSet<Path>,
    pub(crate) imports: Vec<Import>,
    /// Paths in the code whose first name is followed by `::`.
    pub(crate) paths: Vec<(Path, Path)>,
    /// Names defined, by the module inside this file.
    pub(crate) defined: BTreeSet<(Path, String)>,
    /// How often a word is in the code, imports aside.
    pub(crate) words: BTreeMap<String, usize>,
}

impl Module {
    /// Reads a file's text.
    pub(crate) fn parse(text: &str) -> Self {
        let tokens = without_tests(&tokens(text));
        let mut parser = Parser {
            tokens: &tokens,
            at: 0,
            depth: 0,
            within: Vec::new(),
            module: Self::default(),
        };
        parser.run();
        parser.module
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    /// Modules inside the file, each with the depth of what is in it.
    within: Vec<(String, usize)>,
    module: Module,
}

impl<'a> Parser<'a> {
    fn run(&mut self) {
        let tokens = self.tokens;
        while let Some(token) = tokens.get(self.at) {
            match token {
                Token::Sign('{') => {
                    self.depth += 1;
                    self.at += 1;
                }
                Token::Sign('}') => {
                    self.depth = self.depth.saturating_sub(1);
                    while self
                        .within
                        .last()
                        .is_some_and(|(_, depth)| *depth > self.depth)
                    {
                        self.within.pop();
                    }
                    self.at += 1;
                }
                Token::Word(word) => self.word(word),
                Token::Colons | Token::Sign(_) => self.at += 1,
            }
        }
    }

    fn word(&mut self, word: &str) {
        let top = self.within.last().map_or(0, |(_, depth)| *depth) == self.depth;
        match (word, self.peek(1)) {
            ("mod", Some(Token::Word(name))) => return self.declare(name),
            ("use", Some(Token::Word(_) | Token::Sign('{') | Token::Colons)) => {
                return self.import();
            }
            ("fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static", next) => {
                if let (true, Some(Token::Word(name))) = (top, next) {
                    self.module.defined.insert((self.path(), name.clone()));
                }
            }
            ("macro_rules", _) => {
                if let Some(Token::Word(name)) = self.peek(2) {
                    self.module.defined.insert((self.path(), name.clone()));
                }
            }
            (_, Some(Token::Colons)) => return self.named(),
            _ => {}
        }
        self.count(word);
        self.at += 1;
    }

    fn count(&mut self, word: &str) {
        *self.module.words.entry(word.to_owned()).or_default() += 1;
    }

    fn peek(&self, by: usize) -> Option<&'a Token> {
        self.tokens.get(self.at + by)
    }

    fn path(&self) -> Path {
        self.within.iter().map(|(name, _)| name.clone()).collect()
    }

    /// `mod name;` or `mod name { .. }`.
    fn declare(&mut self, name: &str) {
        let path = self.path();
        if self.peek(2) == Some(&Token::Sign('{')) {
            self.depth += 1;
            self.within.push((name.to_owned(), self.depth));
            self.module.inline.insert(self.path());
        } else {
            self.module.children.push((path, name.to_owned()));
        }
        self.at += 3;
    }

    /// `a::b::c` in the code.
    fn named(&mut self) {
        let continued = self.at > 0 && self.tokens[self.at - 1] == Token::Colons;
        let mut path = Path::new();
        while let Some(Token::Word(word)) = self.peek(0) {
            path.push(word.clone());
            self.count(word);
            self.at += 1;
            if self.peek(0) != Some(&Token::Colons) {
                break;
            }
            self.at += 1;
        }
        if !continued {
            self.module.paths.push((self.path(), path));
        }
    }

    /// `use ..;`
    fn import(&mut self) {
        let public = self.is_public();
        self.at += 1;
        if self.peek(0) == Some(&Token::Colons) {
            self.at += 1;
        }
        let mut found = Vec::new();
        self.tree(&Path::new(), &mut found);
        let within = self.path();
        for (path, name) in found {
            self.module.imports.push(Import {
                within: within.clone(),
                path,
                name,
                public,
            });
        }
    }

    /// Whether `pub` or `pub(..)` stands before this word.
    fn is_public(&self) -> bool {
        let mut before = self.tokens[..self.at].iter().rev();
        match before.next() {
            Some(Token::Word(word)) => word == "pub",
            Some(Token::Sign(')')) => {
                let mut rest = before.skip_while(|token| **token != Token::Sign('('));
                rest.nth(1).and_then(Token::word) == Some("pub")
            }
            _ => false,
        }
    }

    /// One branch of an import: paths, and what they are called.
    fn tree(&mut self, before: &Path, found: &mut Vec<(Path, String)>) {
        let mut path = before.clone();
        loop {
            match self.peek(0).cloned() {
                Some(Token::Word(word)) => {
                    self.at += 1;
                    if word != "self" || path.is_empty() {
                        path.push(word);
                    }
                    if self.peek(0) == Some(&Token::Colons) {
                        self.at += 1;
                        continue;
                    }
                    let mut name = path.last().cloned().unwrap_or_default();
                    if self.peek(0).and_then(Token::word) == Some("as") {
                        name = self.peek(1).and_then(Token::word).unwrap_or("_").to_owned();
                        self.at += 2;
                    }
                    found.push((path, name));
                    return;
                }
                Some(Token::Sign('*')) => {
                    self.at += 1;
                    found.push((path, "*".to_owned()));
                    return;
                }
                Some(Token::Sign('{')) => {
                    self.at += 1;
                    while !matches!(self.peek(0), None | Some(Token::Sign('}'))) {
                        self.tree(&path, found);
                        if self.peek(0) == Some(&Token::Sign(',')) {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                _ => {
                    self.at += 1;
                    return;
                }
            }
        }
    }
}
