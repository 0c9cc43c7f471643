//! Huge, deeply nested and endless answers stay within the memory limit: the pod has 256 MiB.

use std::{env, fs, process::Command};

use chatcaptain_operator::chatcaptain::ApiCall;

use crate::{Answer, Caller, is_write, server::Server};

/// The limit in MiB of a process that only reads the answer.
const MOST: u64 = 128;
const MIB: usize = 1 << 20;

/// Name, answer, and what must come of it for a read and for a write.
fn answers() -> Vec<(&'static str, Answer, &'static str, &'static str)> {
    let long = |status, start, part: &'static str, size: usize, end| {
        Answer::Long(status, start, part, size / part.len(), end)
    };
    let endless = 1 << 40;
    vec![
        (
            "many versions",
            long(200, r#"{"versions":["#, r#"{"id":1},"#, 30 * MIB, r#"{"id":2}]}"#),
            "unknown",
            "ok",
        ),
        ("empty entries", long(200, r#"{"versions":["#, "{},", 30 * MIB, "{}]}"), "unknown", "ok"),
        ("numbers for a version", long(200, r#"{"version":["#, "0,", 30 * MIB, "0]}"), "unknown", "ok"),
        ("lists in lists", long(200, r#"{"version":"#, "[", 4 * MIB, ""), "unknown", "unknown"),
        ("objects in objects", long(200, r#"{"error":"#, r#"{"a":"#, 4 * MIB, ""), "unknown", "unknown"),
        ("one long text", long(200, r#"{"id":""#, "abcdefgh", 30 * MIB, r#""}"#), "unknown", "ok"),
        (
            "one long complaint",
            long(200, r#"{"error":""#, "abcdefgh", 30 * MIB, r#""}"#),
            "refused",
            "refused",
        ),
        ("without end", long(200, r#"{"versions":["#, "{},", endless, ""), "unknown", "unknown"),
        ("an error without end", long(500, r#"{"message":["#, "0,", endless, ""), "unknown", "unknown"),
        ("a refusal without end", long(400, r#"{"message":["#, "0,", endless, ""), "unknown", "unknown"),
    ]
}

#[test]
fn no_answer_exceeds_the_memory_limit() {
    let server = Server::start();
    for (name, answer, read, written) in answers() {
        for call in [ApiCall::List, ApiCall::Create] {
            server.say(answer.clone());
            // a process of its own: what one answer took is not given back at once
            let child = Command::new(env::current_exe().unwrap())
                .args(["--exact", "memory::one_answer", "--ignored", "--nocapture"])
                .env("ROBUSTNESS_URL", &server.url)
                .env("ROBUSTNESS_CALL", call.as_str())
                .output()
                .unwrap();
            let output = String::from_utf8(child.stdout).unwrap();
            let line = output.lines().find_map(|line| line.strip_prefix("came to ")).unwrap_or_else(|| {
                panic!("{name}, {call:?}: {output}{}", String::from_utf8_lossy(&child.stderr))
            });
            println!("{name:<24} {:<8} {line}", call.as_str());
            let (outcome, memory) = line.split_once(' ').unwrap();
            assert_eq!(outcome, if is_write(call) { written } else { read }, "{name}, {call:?}");
            let memory: u64 = memory.trim_end_matches(" MiB").parse().unwrap();
            assert!(memory <= MOST, "{name}, {call:?}: {memory} MiB");
        }
    }
}

/// What the test above runs.
#[test]
#[ignore = "needs a server; run by the test of all answers"]
fn one_answer() {
    let call = env::var("ROBUSTNESS_CALL").unwrap();
    let call = *ApiCall::ALL.iter().find(|other| other.as_str() == call).unwrap();
    let came = Caller::of(&env::var("ROBUSTNESS_URL").unwrap()).ask(call);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    println!("\ncame to {} {} MiB", came.outcome(), kib >> 10);
}

/// The largest list that is read, of sixteen chatbots at the same time, in a process with the memory of the shipped pod. Those
/// that fit are kept, the others fail; a small one is read all the same.
#[test]
fn sixteen_largest_lists_at_once_stay_within_the_limit_of_the_pod() {
    let server = Server::start();
    // 28 MiB of text
    server.say(Answer::Versions(90_000));
    let limited = format!("ulimit -d {}; exec \"$0\" \"$@\"", 256 << 10);
    let child = Command::new("/bin/sh")
        .args(["-c", &limited])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "memory::sixteen_lists", "--ignored", "--nocapture"])
        .env("ROBUSTNESS_URL", &server.url)
        .output()
        .unwrap();
    let output = String::from_utf8(child.stdout).unwrap();
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix("came to "))
        .unwrap_or_else(|| panic!("{output}{}", String::from_utf8_lossy(&child.stderr)));
    println!("sixteen largest lists: {line}");
    let words: Vec<u64> = line.split(' ').map_while(|word| word.parse().ok()).collect();
    let [kept, failed, memory] = words[..] else { panic!("{line}") };
    assert!(kept >= 2 && kept + failed == 16, "{line}");
    assert!(memory <= 224, "{memory} MiB");
}

/// What the test above runs.
#[test]
#[ignore = "needs a server; run by the test of sixteen lists"]
fn sixteen_lists() {
    let caller = Caller::of(&env::var("ROBUSTNESS_URL").unwrap());
    let (kept, failed) = caller.lists(16);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    println!("\ncame to {} {} {} MiB", kept.len(), failed.len(), kib >> 10);
    assert!(failed.iter().all(|failure| failure.message.contains("--selector")), "{failed:?}");
}
