//! No circle between the modules of a crate.
//!
//! A module is a file. It *names* another one if a path in it, in a `use` or elsewhere, leads to an
//! item of that other file. Re-exports are looked through: whoever names `filter::Term`, which
//! `filter.rs` re-exports from `filter/expression.rs`, names the latter, and `pub use` and `mod` by
//! themselves name nothing. So a parent may show what its children make, and may use it, as long as
//! no child uses what the parent makes. Tests may name anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::{
    crates::packages,
    reader::{Use, read},
};

/// The names of a path, from the root of the crate; of a module, or of something in one.
type Names = Vec<String>;

/// What one file says.
#[derive(Default)]
struct Module {
    /// What it calls its own though it is made elsewhere.
    re_exports: BTreeMap<String, Names>,
    /// Its short names for others.
    imports: BTreeMap<String, Names>,
    /// Every path in it that leads somewhere in the crate, as written.
    paths: Vec<Names>,
}

impl Module {
    fn read(text: &str) -> Self {
        let mut module = Self::default();
        let (uses, mut paths) = read(text);
        for Use { short, path, is_public } in uses {
            if is_public {
                module.re_exports.insert(short, path);
            } else {
                paths.push(path.clone());
                module.imports.insert(short, path);
            }
        }
        module.paths = paths;
        module
    }
}

/// The modules of a crate, by their names.
struct Modules(BTreeMap<Names, Module>);

impl Modules {
    /// From the root of the crate, if a path in a module leads into the crate.
    fn absolute(&self, of: &[String], path: &[String]) -> Option<Names> {
        let ups = path.iter().take_while(|part| *part == "super").count();
        let (start, rest): (Names, &[String]) = match path.first()?.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (of.to_owned(), &path[1..]),
            "super" => (of[..of.len().checked_sub(ups)?].to_owned(), &path[ups..]),
            _ if self.0.contains_key(&[of, &path[..1]].concat()) => (of.to_owned(), path),
            first => {
                let import = self.0.get(of)?.imports.get(first).filter(|_| path.len() > 1)?;
                let is_itself = import.first() == path.first();
                let start = if is_itself { None } else { self.absolute(of, import) };
                (start.filter(|start| self.0.contains_key(start))?, &path[1..])
            }
        };
        Some([&start[..], rest].concat())
    }

    /// The module that makes what a path from the root leads to; none for a module in itself.
    fn maker(&self, path: &[String], depth: usize) -> Option<Names> {
        const DEPTH_MAX: usize = 8;
        let known = (0..=path.len()).rev().find(|end| self.0.contains_key(&path[..*end]))?;
        let item = path.get(known)?;
        let module = &path[..known];
        let elsewhere = self.0[module].re_exports.get(item).filter(|_| depth < DEPTH_MAX);
        let elsewhere = elsewhere.and_then(|path| self.absolute(module, path));
        match elsewhere {
            None => Some(module.to_owned()),
            Some(start) => self.maker(&[&start[..], &path[known + 1..]].concat(), depth + 1),
        }
    }

    /// The modules that each module names.
    fn named(&self) -> BTreeMap<&Names, BTreeSet<Names>> {
        let mut all = BTreeMap::new();
        for (name, module) in &self.0 {
            let paths = module.paths.iter().filter_map(|path| self.absolute(name, path));
            let mut named: BTreeSet<Names> =
                paths.filter_map(|path| self.maker(&path, 0)).collect();
            named.remove(name);
            all.insert(name, named);
        }
        all
    }

    /// Each pair of modules that lead to each other, over whatever others.
    fn circles(&self) -> Vec<(String, String)> {
        let named = self.named();
        let reached = |from: &Names| {
            let (mut found, mut left) = (BTreeSet::new(), vec![from.clone()]);
            while let Some(next) = left.pop() {
                for other in named.get(&next).into_iter().flatten() {
                    if found.insert(other.clone()) {
                        left.push(other.clone());
                    }
                }
            }
            found
        };
        let reached: BTreeMap<&Names, BTreeSet<Names>> =
            self.0.keys().map(|name| (name, reached(name))).collect();
        let mut circles = Vec::new();
        for (name, named) in &named {
            for other in named {
                if reached.get(other).is_some_and(|back| back.contains(*name)) {
                    circles.push((shown(name), shown(other)));
                }
            }
        }
        circles
    }
}

fn shown(name: &[String]) -> String {
    if name.is_empty() { "the root".to_owned() } else { name.join("::") }
}

/// The names of a module by its file below `src`; `tests.rs` is none.
fn module_name(file: &Path) -> Option<Names> {
    let mut parts: Names = file
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    match parts.last()?.as_str() {
        "tests" => return None,
        "mod" => drop(parts.pop()),
        "lib" | "main" if parts.len() == 1 => parts.clear(),
        _ => {}
    }
    Some(parts)
}

pub(super) fn files_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a folder of sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn modules_of(sources: &Path) -> Modules {
    let mut files = Vec::new();
    files_below(sources, &mut files);
    // A program beside a library is only its beginning.
    let has_library = sources.join("lib.rs").exists();
    files.retain(|file| !(has_library && file == &sources.join("main.rs")));
    let read = |file: &PathBuf| {
        let name = module_name(file.strip_prefix(sources).expect("it is below"))?;
        let text = fs::read_to_string(file).expect("a source file is text");
        Some((name, Module::read(&text)))
    };
    Modules(files.iter().filter_map(read).collect())
}

#[test]
fn no_modules_of_a_crate_name_each_other_in_a_circle() {
    let mut checked = 0;
    for package in packages() {
        let name = package["name"].as_str().expect("a name");
        let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
        let sources = manifest.with_file_name("src");
        if !sources.exists() {
            continue;
        }
        let modules = modules_of(&sources);
        checked += modules.0.len();
        let circles = modules.circles();
        assert!(circles.is_empty(), "{name}: these name each other: {circles:#?}");
    }
    assert!(checked > 300, "only {checked} modules were found");
}

fn made_up(files: &[(&str, &str)]) -> Vec<(String, String)> {
    let read = |(file, text): &(&str, &str)| {
        (module_name(Path::new(file)).expect("no tests"), Module::read(text))
    };
    Modules(files.iter().map(read).collect()).circles()
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let root = ("lib.rs", "mod a; mod b;");
    for (a, b, is_circle) in [
        ("use crate::b::B; pub struct A;", "use super::a::A;", true),
        ("fn f() { crate::b::g() }", "use crate::a;\npub fn g() { a::f() }", true),
        ("fn f() { log!(super::b::C); }", "pub const C: u8 = crate::a::D;", true),
        ("use crate::b::B;", "pub struct B;", false),
        ("use crate::b::B;", "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }", false),
    ] {
        let circles = made_up(&[root, ("a.rs", a), ("b.rs", b)]);
        assert_eq!(!circles.is_empty(), is_circle, "{a} | {b}: {circles:?}");
    }
}

#[test]
fn a_parent_may_show_its_children_but_not_be_used_by_them() {
    let child = ("a/child.rs", "use super::Other; pub struct Child;");
    let other = ("a/other.rs", "pub struct Other;");
    let shows = "mod child; mod other; pub use self::other::Other; fn f(_: child::Child) {}";
    assert_eq!(made_up(&[("lib.rs", "mod a;"), ("a/mod.rs", shows), child, other]), []);
    let makes = "mod child; pub struct Other; fn f(_: child::Child) {}";
    let circles = made_up(&[("lib.rs", "mod a;"), ("a/mod.rs", makes), child]);
    assert_eq!(circles.len(), 2, "{circles:?}");
}
