//! The commands of the runbook, as they stand there but for the namespace.

use simulator::{Environment, Settings};
use support::{World, deployment, generated::read, generated::root, version};

/// The commands of one section.
fn commands(heading: &str) -> Vec<String> {
    let text = read("deploy/runbook.md");
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let inside = section.split("```").skip(1).step_by(2);
    let found: Vec<String> = inside.map(|block| block.trim_start().to_owned()).collect();
    assert!(!found.is_empty(), "{heading}");
    found
}

#[test]
fn runbook_commands_work() {
    let world = World::new(Settings::default());
    let bot = world.bot.as_str();
    let run = |block: &str| {
        let block = block.replace("-n chatbots", &format!("-n {}", world.namespace));
        let block = block.replace("namespace chatbots", &format!("namespace {}", world.namespace));
        // of this test's objects alone, whatever others do on the same cluster
        let block = block.replace(" -A", &format!(" -n {}", world.namespace));
        world.cluster.shell(root(), &format!("set -e\n{block}"));
    };
    let release = |name: &str| {
        let of = |environment: &str| {
            let reference = format!("versionRef: {{name: {name}}}");
            deployment(bot, &format!("support-{environment}"), environment, &[&reference])
        };
        world.apply(&[version(bot, name, &[]), of("test"), of("prod")].concat());
        run(&commands("Release")[0]);
        world.wait_until_deployment_ready("support-prod");
    };
    release("support-q3");
    release("support-q4");
    run(&commands("What runs where")[0]);
    run(&commands("Promote")[0]);
    run(&commands("Freeze")[0]);
    let live = || world.live_version(Environment::Prod);

    let [back, end] = &commands("Roll back")[..] else { panic!("two blocks") };
    run(back);
    assert_eq!(live().as_deref(), Some("support-q3"));
    run(end);
    world.eventually("the version of the spec", || (live().as_deref() == Some("support-q4")).then_some(()));
    world.wait_until_deployment_ready("support-prod");

    world.delete("cbv", "support-q3");
    world.eventually("it waits", || {
        let status = world.deployment("support-prod").status?;
        (!status.pending_deletions.is_empty()).then_some(())
    });
    run(&commands("Delete old versions")[0]);
    let before = world.effects();
    run(&commands("Rotate a key")[0]);
    let is_used = || world.service.calls().iter().any(|call| call.key == "-new");
    world.eventually("the new key is used", || is_used().then_some(()));
    assert_eq!(world.effects(), before);
}
