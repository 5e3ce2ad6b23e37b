//! What ARCHITECTURE.md names is there: each file and folder, and each function of its walks.

use std::{fs, path::Path};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A step of a walk: the file and the function that it names.
#[derive(Debug, PartialEq)]
struct Step<'a> {
    file: &'a str,
    function: &'a str,
}

/// The texts between backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The steps of all walks: the lines `1. ``file.rs`` ``function``: what it does`.
fn steps(text: &str) -> Vec<Step<'_>> {
    let numbered = text.lines().filter(|line| {
        let number = line.split_once(". ").map(|(number, _)| number);
        number
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()))
    });
    let step = |line| {
        let mut names = quoted(line);
        let file = names.next().filter(|file| file.ends_with(".rs"))?;
        Some(Step { file, function: names.next()? })
    };
    numbered.filter_map(step).collect()
}

/// `a/{b,c}/d` as `a/b/d` and `a/c/d`.
fn expanded(path: &str) -> Vec<String> {
    let Some((before, (choices, after))) =
        path.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    else {
        return vec![path.to_owned()];
    };
    choices.split(',').flat_map(|choice| expanded(&format!("{before}{choice}{after}"))).collect()
}

fn has_function(text: &str, name: &str) -> bool {
    text.match_indices(&format!("fn {name}"))
        .any(|(at, found)| text[at + found.len()..].starts_with(['(', '<']))
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn every_step_of_a_walk_is_a_function_that_can_be_opened() {
    let text = read("ARCHITECTURE.md");
    let steps = steps(&text);
    assert!(steps.len() > 30, "only {} steps were found", steps.len());
    for Step { file, function } in steps {
        assert!(has_function(&read(file), function), "{file} has no function {function}");
    }
}

#[test]
fn every_file_and_folder_named_is_there() {
    let text = read("ARCHITECTURE.md");
    let folders: Vec<String> = fs::read_dir(ROOT)
        .expect("the workspace")
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| format!("{}/", entry.file_name().to_string_lossy()))
        .collect();
    let is_path = |name: &&str| {
        folders.iter().any(|folder| name.starts_with(folder.as_str())) && !name.contains(['*', ' '])
    };
    let named: Vec<String> =
        text.lines().flat_map(quoted).filter(is_path).flat_map(expanded).collect();
    assert!(named.len() > 80, "only {} paths were found", named.len());
    for name in named {
        let path = Path::new(ROOT).join(&name);
        let is_there = path.exists() || path.with_extension("rs").exists();
        assert!(is_there, "ARCHITECTURE.md names {name}, which is not there");
    }
}

#[test]
fn steps_and_paths_are_read_as_they_are_written() {
    let text = "1. `a/b.rs` `f`: does it\n12. `c.rs` `g`: goes on\n2. no file\n`d.rs` `h`: no step";
    let expected = [("a/b.rs", "f"), ("c.rs", "g")].map(|(file, function)| Step { file, function });
    assert_eq!(steps(text), expected);
    assert_eq!(expanded("a/{b,c}/{d,e}"), ["a/b/d", "a/b/e", "a/c/d", "a/c/e"]);
    assert!(has_function("pub async fn send<T>(", "send") && !has_function("fn sender()", "send"));
}
