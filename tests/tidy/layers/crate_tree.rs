//! The files of one crate and which of them names which. Must never judge that.

use std::collections::{BTreeMap, BTreeSet};

use super::module::{Module, Path};

/// One file names another, through a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    /// The file that names.
    pub(crate) from: Path,
    /// The file in which what it names is defined.
    pub(crate) to: Path,
    /// The deepest file that the path itself names: another one where that re-exports.
    pub(crate) through: Path,
    /// The path as it is written.
    pub(crate) path: String,
    /// Only handed on to others, not used.
    pub(crate) handed_on: bool,
}

/// All files of a crate, by the path of their module; the root's is empty.
#[derive(Debug, Default)]
pub(crate) struct CrateTree {
    files: BTreeMap<Path, Module>,
    /// Every module, those inside files too: the file it is in.
    modules: BTreeMap<Path, Path>,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Module(Path),
    /// Something defined in a module.
    Item(Path),
}

impl CrateTree {
    /// Of a crate's files by their paths below `src`. Modules that only tests see are left out.
    pub(crate) fn new(sources: &BTreeMap<String, String>) -> Self {
        let mut tree = Self::default();
        tree.add(Path::new(), "lib.rs", sources);
        tree
    }

    fn add(&mut self, path: Path, file: &str, sources: &BTreeMap<String, String>) {
        let text = sources
            .get(file)
            .unwrap_or_else(|| panic!("{file} is not there"));
        let module = Module::parse(text);
        self.modules.insert(path.clone(), path.clone());
        for inline in &module.inline {
            self.modules.insert(joined(&path, inline), path.clone());
        }
        for (within, name) in module.children.clone() {
            let child = joined(&joined(&path, &within), &[name]);
            let stem = child.join("/");
            let names = [format!("{stem}.rs"), format!("{stem}/mod.rs")];
            let file = names.iter().find(|name| sources.contains_key(*name));
            let file = file.unwrap_or_else(|| panic!("no file for module {stem}"));
            self.add(child, file, sources);
        }
        self.files.insert(path, module);
    }

    /// The modules that are files.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.keys()
    }

    /// Which file names which, each pair and path once.
    pub(crate) fn edges(&self) -> BTreeSet<Edge> {
        let mut edges = BTreeSet::new();
        for (file, module) in &self.files {
            let named = module
                .paths
                .iter()
                .map(|(within, path)| (within, path, false));
            let imports = module.imports.iter().map(|import| {
                let used = module.words.contains_key(&import.name);
                (&import.within, &import.path, import.public && !used)
            });
            for (within, path, handed_on) in named.chain(imports) {
                let from = joined(file, within);
                let mut seen = BTreeSet::new();
                let Some(target) = self.resolve(&from, path, &mut seen) else {
                    continue;
                };
                let to = self.file_of(&target);
                if to != *file {
                    edges.insert(Edge {
                        from: file.clone(),
                        through: self.literal(&from, path).unwrap_or_else(|| to.clone()),
                        to,
                        path: path.join("::"),
                        handed_on,
                    });
                }
            }
        }
        edges
    }

    fn file_of(&self, target: &Target) -> Path {
        let (Target::Module(path) | Target::Item(path)) = target;
        self.modules[path].clone()
    }

    /// The module of a file, and the path to a module inside it.
    fn place(&self, module: &Path) -> Option<(&Module, Path)> {
        let file = self.modules.get(module)?;
        Some((self.files.get(file)?, module[file.len()..].to_vec()))
    }

    /// The deepest file among the modules that a path names, without what they re-export.
    fn literal(&self, from: &Path, path: &Path) -> Option<Path> {
        let (mut module, rest) = self.start(from, path)?;
        for name in rest {
            let child = joined(&module, std::slice::from_ref(name));
            if !self.modules.contains_key(&child) {
                break;
            }
            module = child;
        }
        self.modules.get(&module).cloned()
    }

    /// Where a path begins if it begins in this crate by its first names, and what is left of it.
    fn start<'a>(&self, from: &Path, path: &'a [String]) -> Option<(Path, &'a [String])> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some((Path::new(), rest)),
            "self" => Some((from.clone(), rest)),
            "super" => {
                let mut module = from[..from.len().checked_sub(1)?].to_vec();
                let mut rest = rest;
                while let Some(("super", left)) =
                    rest.split_first().map(|(name, left)| (name.as_str(), left))
                {
                    module.pop()?;
                    rest = left;
                }
                Some((module, rest))
            }
            _ => {
                let child = joined(from, std::slice::from_ref(first));
                self.modules.contains_key(&child).then_some((child, rest))
            }
        }
    }

    /// Where a path leads; nowhere if that is in another crate.
    fn resolve(
        &self,
        from: &Path,
        path: &[String],
        seen: &mut BTreeSet<(Path, Path)>,
    ) -> Option<Target> {
        if !seen.insert((from.clone(), path.to_vec())) {
            return None;
        }
        let (mut target, rest) = match self.start(from, path) {
            Some((module, rest)) => (Target::Module(module), rest),
            None => {
                let (first, rest) = path.split_first()?;
                (self.imported(from, first, seen)?, rest)
            }
        };
        for name in rest {
            let Target::Module(module) = &target else {
                break;
            };
            target = self
                .inside(module, name, seen)
                .unwrap_or_else(|| Target::Item(module.clone()));
        }
        Some(target)
    }

    /// What a name in a module stands for.
    fn inside(
        &self,
        module: &Path,
        name: &str,
        seen: &mut BTreeSet<(Path, Path)>,
    ) -> Option<Target> {
        let child = joined(module, &[name.to_owned()]);
        if self.modules.contains_key(&child) {
            return Some(Target::Module(child));
        }
        let (file, within) = self.place(module)?;
        if file.defined.contains(&(within, name.to_owned())) {
            return Some(Target::Item(module.clone()));
        }
        self.imported(module, name, seen)
    }

    /// What a name that a module imports stands for.
    fn imported(
        &self,
        module: &Path,
        name: &str,
        seen: &mut BTreeSet<(Path, Path)>,
    ) -> Option<Target> {
        let (file, within) = self.place(module)?;
        let mut globs = Vec::new();
        for import in file.imports.iter().filter(|import| import.within == within) {
            if import.name == name {
                if let Some(target) = self.resolve(module, &import.path, seen) {
                    return Some(target);
                }
            } else if import.name == "*" {
                globs.push(&import.path);
            }
        }
        globs
            .into_iter()
            .find_map(|glob| match self.resolve(module, glob, seen)? {
                Target::Module(glob) => self.inside(&glob, name, seen),
                Target::Item(_) => None,
            })
    }
}

fn joined(path: &[String], rest: &[String]) -> Path {
    path.iter().chain(rest).cloned().collect()
}
