//! The samples in which a release is one line: whatever changes that line, three releases and a revert make three snapshots.

use std::{fs, path::Path, process::Command};

use regex::Regex;
use serde_json::Value;
use simulator::{Environment, Settings};
use support::{
    Cluster, World,
    generated::{read, root},
    go_tool,
};
use tempfile::TempDir;

/// A sample, and how an automation changes its line in a checkout of git to this version.
struct Sample {
    folder: &'static str,
    release: fn(&Path, &str),
}

/// The repository that Argo CD or Flux reads.
struct Git {
    folder: TempDir,
    sample: &'static str,
}

impl Git {
    /// The sample, with what it refers to, for the namespace and chatbot of a world.
    fn with(sample: &'static str, world: &World) -> Self {
        let git = Self { folder: TempDir::new().unwrap(), sample };
        for part in ["name-references".to_owned(), format!("samples/{sample}")] {
            copy(&root().join("deploy").join(&part), &git.folder.path().join(part), &|text| {
                let text = text.replace("namespace: chatbots", &format!("namespace: {}", world.namespace));
                text.replace("bot59aBv7wzR9", &world.bot)
            });
        }
        git.run(&["init", "--quiet"]);
        git
    }

    fn checkout(&self) -> std::path::PathBuf {
        self.folder.path().join("samples").join(self.sample)
    }

    fn run(&self, args: &[&str]) {
        let who = ["-c", "user.name=git", "-c", "user.email=git@example.com"];
        let output = Command::new("git").current_dir(&self.folder).args(who).args(args).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn commit(&self, message: &str) {
        self.run(&["add", "--all"]);
        self.run(&["commit", "--quiet", "--message", message]);
    }

    /// What Argo CD and Flux do with a commit: they apply what is there, and prune the version that is there no more.
    fn sync(&self, world: &World) {
        let rendered = world.kubectl(&["kustomize", self.checkout().to_str().unwrap()], "");
        world.apply(&rendered);
        let listed = world.kubectl(&["get", "cbv", "-o", "name"], "");
        for name in listed.lines().filter_map(|line| line.rsplit('/').next()) {
            if !rendered.contains(&format!("\n  name: {name}\n")) {
                world.delete("chatbotversion", name);
            }
        }
    }
}

/// Runs a command with our kustomize in a folder.
fn kustomize(folder: &Path, command: &str) {
    drop(go_tool("kustomize", "sigs.k8s.io/kustomize/kustomize/v5"));
    Cluster::shared().shell(folder, command);
}

fn copy(from: &Path, to: &Path, change: &dyn Fn(String) -> String) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy(&path, &to, change);
        } else {
            fs::write(to, change(fs::read_to_string(path).unwrap())).unwrap();
        }
    }
}

/// The step of the workflow that changes the line, with what GitHub would set.
fn by_workflow(checkout: &Path, version: &str) {
    let workflow: Value =
        serde_saphyr::from_str(&read("deploy/samples/one-line/automation/github-workflow.yaml")).unwrap();
    let step = &workflow["jobs"]["release"]["steps"][1];
    assert_eq!(step["env"]["VERSION"], "${{ inputs.version }}");
    let folder = step["working-directory"].as_str().unwrap().strip_prefix("one-line/").unwrap();
    let command = format!("VERSION={version}; {}", step["run"].as_str().unwrap());
    kustomize(&checkout.join(folder), &command);
}

/// What Renovate's custom manager finds is replaced by the next version.
fn by_renovate(checkout: &Path, version: &str) {
    let config: Value =
        serde_json::from_str(&read("deploy/samples/one-line/automation/renovate.json")).unwrap();
    let manager = &config["customManagers"][0];
    let pattern = |list: &Value| list[0].as_str().unwrap().trim_matches('/').to_owned();
    let path = "version/kustomization.yaml";
    assert!(Regex::new(&pattern(&manager["managerFilePatterns"])).unwrap().is_match(path));
    let text = fs::read_to_string(checkout.join(path)).unwrap();
    let found = Regex::new(&pattern(&manager["matchStrings"])).unwrap();
    let found = found.captures(&text).expect("the line and the comment above it");
    assert_eq!((&found["datasource"], &found["depName"]), ("github-releases", "example/support-bot"));
    let current = found.name("currentValue").unwrap();
    let next = format!("{}{version}{}", &text[..current.start()], &text[current.end()..]);
    fs::write(checkout.join(path), next).unwrap();
}

/// The promotion step of the Stage, with the tag of the freight.
fn by_kargo(checkout: &Path, version: &str) {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&read("deploy/samples/one-line/automation/kargo.yaml")).unwrap();
    let steps = documents[1]["spec"]["promotionTemplate"]["spec"]["steps"].as_array().unwrap();
    let config = &steps.iter().find(|step| step["uses"] == "yaml-update").unwrap()["config"];
    let path = config["path"].as_str().unwrap().strip_prefix("./releases/one-line/").unwrap();
    let update = &config["updates"][0];
    let tag = r#"${{ commitFrom("https://github.com/example/support-bot.git").Tag }}"#;
    let value = update["value"].as_str().unwrap().replace(tag, version);
    let path = checkout.join(path);
    // as the step does: the value alone changes
    let key = format!("{}: ", update["key"].as_str().unwrap());
    let text = fs::read_to_string(&path).unwrap();
    let lines = text.lines().map(|line| match line.strip_prefix(&key) {
        Some(_) => format!("{key}{value}\n"),
        None => format!("{line}\n"),
    });
    let next: String = lines.collect();
    assert_ne!(next, text);
    fs::write(path, next).unwrap();
}

/// Image Updater writes the tag into `images` of the kustomization, as this command does.
fn by_image(checkout: &Path, version: &str) {
    let updater: Value =
        serde_saphyr::from_str(&read("deploy/samples/one-line-image/image-updater.yaml")).unwrap();
    assert_eq!(updater["spec"]["writeBackConfig"]["gitConfig"]["writeBackTarget"], "kustomization");
    let image = updater["spec"]["applicationRefs"][0]["images"][0]["imageName"].as_str().unwrap();
    let (image, _) = image.rsplit_once(':').unwrap();
    kustomize(checkout, &format!("kustomize edit set image {image}:{version}"));
}

/// Three releases, the revert of the last, and what the service was asked for.
fn three_releases_and_a_revert(sample: &Sample) {
    let world = World::new(Settings::default());
    let git = Git::with(sample.folder, &world);
    let runs = |version: &str| {
        git.sync(&world);
        let name = format!("support-{version}");
        for environment in [Environment::Test, Environment::Prod] {
            world.eventually(&format!("{environment:?} runs {name}"), || {
                (world.live_version(environment).as_deref() == Some(name.as_str())).then_some(())
            });
        }
        world.wait_until_deployment_ready("support-test");
        world.wait_until_deployment_ready("support-prod");
    };
    git.commit("First release");
    runs("1.0.0");
    for version in ["1.0.1", "1.1.0-rc.1"] {
        (sample.release)(&git.checkout(), version);
        git.commit(&format!("Release {version}"));
        let changed =
            Command::new("git").current_dir(&git.folder).args(["show", "--numstat", "--format="]).output();
        let changed = String::from_utf8(changed.unwrap().stdout).unwrap();
        assert!(changed.starts_with("1\t1\t") && changed.lines().count() == 1, "one line: {changed}");
        runs(version);
    }
    git.run(&["revert", "--no-edit", "HEAD"]);
    runs("1.0.1");
    assert_eq!(world.creates(), 3, "one for each snapshot: {:?}", world.effects());
    let moves = world.effects_besides_creates();
    let (forward, back) = moves.split_at(moves.len() - 2);
    let expected: Vec<String> = ["1.0.0", "1.0.1", "1.1.0-rc.1"]
        .iter()
        .flat_map(|version| ["test", "prod"].map(|to| format!("deploy support-{version} {to}")))
        .collect();
    assert_eq!(forward, expected);
    let mut back = back.to_vec();
    back.sort_unstable();
    assert_eq!(back, ["prod", "test"].map(|where_| format!("rollback support-1.0.1 {where_}")));
    // within revisionHistoryLimit, each former version is there to go back to
    assert_eq!(world.state().unwrap().versions.len(), 3);
}

#[test]
fn line_is_changed_by_ci() {
    three_releases_and_a_revert(&Sample { folder: "one-line", release: by_workflow });
}

#[test]
fn line_is_changed_by_renovate() {
    three_releases_and_a_revert(&Sample { folder: "one-line", release: by_renovate });
}

#[test]
fn line_is_changed_by_kargo() {
    three_releases_and_a_revert(&Sample { folder: "one-line", release: by_kargo });
}

#[test]
fn line_is_changed_by_image_updater() {
    three_releases_and_a_revert(&Sample { folder: "one-line-image", release: by_image });
}
