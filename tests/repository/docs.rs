//! What documents and settings point at exists: relative links, files, `make` targets, fields, Go modules.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{files_below, read, reference_tables::fields, root};

#[test]
fn relative_links_resolve() {
    let mut checked = 0;
    for document in documents() {
        let folder = Path::new(&document).parent().unwrap();
        for link in links(&prose(&read(&document))) {
            let (path, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { Path::new(&document).to_owned() } else { folder.join(path) };
            assert!(root().join(&target).exists(), "{document} links to {link}, which does not exist");
            if !heading.is_empty() {
                let headings = headings(&read(&target));
                assert!(
                    headings.contains(heading),
                    "{document} links to {link}, which is no heading: {headings:?}"
                );
            }
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} links found");
}

#[test]
fn files_in_documents_exist() {
    let mut checked = 0;
    for document in documents() {
        let folder = root().join(&document).parent().unwrap().to_owned();
        for path in spans(&read(&document)).iter().filter(|span| is_file_path(span)) {
            let found = [folder.as_path(), root()].iter().any(|folder| folder.join(path).exists());
            assert!(found, "{document} names {path}, which does not exist");
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} files found");
}

#[test]
fn make_targets_in_documents_exist() {
    let makefile = read("Makefile");
    let targets: BTreeSet<_> =
        makefile.lines().filter_map(|line| line.split_once(':')).map(|(target, _)| target).collect();
    let mut checked = 0;
    for document in documents() {
        for target in make_targets(&code(&read(&document))) {
            assert!(
                targets.contains(target.as_str()),
                "{document} names make {target}, which does not exist"
            );
            checked += 1;
        }
    }
    assert!(checked > 5, "only {checked} targets found");
}

#[test]
fn fields_in_documents_exist() {
    let known = field_paths(&fields());
    let mut missing = Vec::new();
    for document in documents() {
        let named = field_paths(&read(&document));
        missing.extend(named.difference(&known).map(|path| format!("{document}: {path}")));
    }
    assert!(known.contains("spec.chatbotId"), "{known:?}");
    assert!(missing.is_empty(), "no kind has these fields: {missing:#?}");
}

#[test]
fn dependabot_watches_every_go_module() {
    let settings: Value = serde_saphyr::from_str(&read(".github/dependabot.yml")).unwrap();
    let updates = settings["updates"].as_array().unwrap();
    let gomod = updates.iter().find(|update| update["package-ecosystem"] == "gomod").unwrap();
    let watched: BTreeSet<_> = gomod["directories"]
        .as_array()
        .unwrap()
        .iter()
        .map(|folder| folder.as_str().unwrap().to_owned())
        .collect();
    let modules = files_below("tests", "mod").into_iter();
    let folder = |path: PathBuf| format!("/{}", relative(path.parent().unwrap()));
    assert_eq!(watched, modules.map(folder).collect());
}

#[test]
fn workflows_pin_their_actions_and_call_make_targets() {
    let makefile = read("Makefile");
    let (mut actions, mut called) = (0, 0);
    for path in files_below(".github/workflows", "yml") {
        let text = std::fs::read_to_string(&path).unwrap();
        for action in text.lines().filter_map(|line| line.trim().strip_prefix("- uses: ")) {
            let (pin, comment) = action.split_once('@').unwrap().1.split_once(" # v").expect("a version");
            let is_commit = pin.len() == 40 && pin.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(is_commit && !comment.is_empty(), "{}: {action} is not pinned", path.display());
            actions += 1;
        }
        for line in text.lines().filter(|line| line.contains("make ")) {
            let words = line.split("make ").nth(1).unwrap().split_whitespace();
            for target in words.take_while(|word| !word.contains('=')) {
                assert!(makefile.contains(&format!("\n{target}:")), "{}: make {target}", path.display());
                called += 1;
            }
        }
    }
    assert!(actions >= 3 && called >= 5, "{actions} actions, {called} targets");
}

/// Every Markdown file of the repository, relative to its root.
fn documents() -> Vec<String> {
    let mut documents = vec!["README.md".to_owned()];
    for folder in [".github", "crds", "deploy", "src", "tests"] {
        documents.extend(files_below(folder, "md").iter().map(|path| relative(path)));
    }
    documents
}

/// A path from the root of the repository.
fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// A document as its fenced blocks and the text between them: what is at an odd place is in a block.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in text.lines() {
        if line.starts_with("```") {
            blocks.push(String::new());
        } else {
            let block = blocks.last_mut().unwrap();
            block.push_str(line);
            block.push('\n');
        }
    }
    blocks
}

/// The text without its fenced blocks and code spans.
fn prose(text: &str) -> String {
    let outside = blocks(text).into_iter().step_by(2);
    outside.map(|text| text.split('`').step_by(2).collect::<Vec<_>>().join("code")).collect()
}

/// The code spans outside fenced blocks.
fn spans(text: &str) -> Vec<String> {
    let outside = blocks(text).into_iter().step_by(2);
    outside
        .flat_map(|text| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// Whether a code span is the path of one source file or document of this repository.
fn is_file_path(span: &str) -> bool {
    let in_path = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    let starts_here = !span.starts_with(['/', '.', '-']) || span.starts_with(".github/");
    let extension = Path::new(span).extension().and_then(|extension| extension.to_str());
    let in_folder =
        span.contains('/') && matches!(extension, Some("md" | "yaml" | "yml" | "sh" | "lua" | "json"));
    starts_here && span.chars().all(in_path) && (in_folder || extension == Some("rs"))
}

/// The code spans and fenced blocks, one command a line.
fn code(text: &str) -> String {
    let fenced = blocks(text).into_iter().skip(1).step_by(2);
    spans(text).into_iter().chain(fenced).collect::<Vec<_>>().join("\n")
}

/// The fields that code spans start with: `spec.suspend: true` names `spec.suspend`.
fn field_paths(text: &str) -> BTreeSet<String> {
    let in_path = |c: &char| c.is_alphanumeric() || matches!(c, '.' | '[' | ']');
    let path = |span: String| span.chars().take_while(in_path).collect::<String>();
    let named = |path: &String| path.starts_with("spec.") || path.starts_with("status.");
    spans(text).into_iter().map(path).filter(named).collect()
}

/// The links of a text that lead into the repository.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).filter(|target| !target.contains("://")).collect()
}

/// The headings of a document as GitHub names their anchors.
fn headings(text: &str) -> BTreeSet<String> {
    let kept = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let anchor = |title: &str| {
        title.to_lowercase().chars().filter(|c| kept(*c)).collect::<String>().trim().replace(' ', "-")
    };
    let outside: String = blocks(text).into_iter().step_by(2).collect();
    outside
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

/// The target of each `make` in command lines.
fn make_targets(code: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for line in code.lines() {
        let words: Vec<_> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        for pair in words.windows(2).filter(|pair| pair[0] == "make" && !pair[1].contains('=')) {
            targets.push(pair[1].to_owned());
        }
    }
    targets
}
