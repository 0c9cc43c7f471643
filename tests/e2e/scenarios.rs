//! The table of failure scenarios in `README.md` names tests that exist.

use support::generated::{read, root};

#[test]
fn readme_names_existing_tests() {
    let readme = read("tests/e2e/README.md");
    let names = readme
        .lines()
        .filter(|line| line.starts_with("| "))
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let mut count = 0;
    for name in names {
        let mut parts: Vec<&str> = name.split("::").collect();
        let test = parts.pop().unwrap();
        let target = if parts[0] == "robustness" { parts.remove(0) } else { "e2e" };
        let module = root().join("tests").join(target).join(parts.join("/"));
        let files = [module.with_extension("rs"), module.join("mod.rs")];
        let code = files.iter().find_map(|file| std::fs::read_to_string(file).ok());
        let code = code.unwrap_or_else(|| panic!("{name}: no such module"));
        assert!(code.contains(&format!("#[test]\nfn {test}()")), "{name}: no such test");
        count += 1;
    }
    assert!(count > 40, "{count}");
}
