//! That every test by which the documentation proves something is there.

use std::fs;
use std::path::Path;

/// The text of all Rust files below a folder.
fn sources(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: &Path| match path.extension() {
        _ if path.is_dir() => sources(path),
        Some(extension) if extension == "rs" => fs::read_to_string(path).unwrap(),
        _ => String::new(),
    };
    entries.map(|path| text(&path)).collect()
}

pub(crate) fn each_test_that_proves_something_is_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(folder.join("../docs/kafka-proofs.md")).unwrap();
    let sources = sources(&folder.join("src/kafka")) + &sources(&folder.join("tests"));
    // A name of more than two words in backquotes is that of a test.
    let names: Vec<&str> = page.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 2).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(sources.contains(&format!("fn {name}(")), "{name} of docs/kafka-proofs.md is no test");
    }
}
