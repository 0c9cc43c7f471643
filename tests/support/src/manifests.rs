//! Manifests as people write them.

/// A `ChatbotVersion`; `more` are further lines of its spec.
pub fn version(bot: &str, name: &str, more: &[&str]) -> String {
    manifest("ChatbotVersion", bot, name, more)
}

/// A `ChatbotDeployment`; `more` are further lines of its spec, the version among them.
pub fn deployment(bot: &str, name: &str, environment: &str, more: &[&str]) -> String {
    let environment = format!("environment: {environment}");
    let more: Vec<&str> = [environment.as_str()].into_iter().chain(more.iter().copied()).collect();
    manifest("ChatbotDeployment", bot, name, &more)
}

fn manifest(kind: &str, bot: &str, name: &str, more: &[&str]) -> String {
    let mut text = format!(
        "---\napiVersion: chatcaptain.dev/v1alpha1\nkind: {kind}\nmetadata:\n  name: {name}\n\
         spec:\n  chatbotId: {bot}\n"
    );
    for line in more {
        text.extend(["  ", line, "\n"]);
    }
    text
}
