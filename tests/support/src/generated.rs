//! Generated files and sections: they must equal what the code generates, and `BLESS=1` rewrites them.

use std::{fmt::Write, path::Path};

/// The folder of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate is in tests/support")
}

/// A file of the repository.
pub fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Asserts that a file equals what the code generates.
pub fn hold(path: &str, generated: &str) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(root().join(path), generated).unwrap();
    }
    assert!(read(path) == generated, "{path} is not what the code generates; run this test with BLESS=1");
}

/// Asserts that the part of a file between the markers of this name equals what the code generates.
pub fn hold_section(path: &str, name: &str, generated: &str) {
    let mut text = read(path);
    let (start, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let from = text.find(&start).unwrap_or_else(|| panic!("{path} has no table of {name}")) + start.len();
    let to = text[from..].find(&end).unwrap_or_else(|| panic!("{path}: the table of {name} does not end"));
    text.replace_range(from..from + to, generated);
    hold(path, &text);
}

/// A table in Markdown.
pub fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(N));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
        writeln!(text, "| {} |", cells.join(" | ")).unwrap();
    }
    text
}
