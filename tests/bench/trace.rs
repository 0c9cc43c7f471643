//! What happened between an apply and its result: each request that was answered, when, and what it had waited for.

use std::time::Instant;

use jiff::Timestamp;
use support::World;

/// Prints the writes to the cluster and the calls of the service since then, in their order, in milliseconds.
pub fn print(world: &World, what: &str, since: Instant) {
    let now = Timestamp::now();
    let ago = jiff::SignedDuration::try_from(since.elapsed()).expect("a short time");
    let start = now - ago;
    let time = |text: &str| text.parse::<Timestamp>().expect("a time");
    let mut lines: Vec<(Timestamp, String)> = Vec::new();
    for timed in world.cluster.timed_writes(&world.namespace) {
        let (received, answered) = (time(&timed.received), time(&timed.answered));
        let write = &timed.write;
        let took = answered.duration_since(received).as_secs_f64() * 1e3;
        let who = if write.user.contains("serviceaccount") { "operator" } else { "user" };
        let line = format!("{who}: {} {} {} ({took:.1} ms)", write.verb, write.resource, write.subresource);
        lines.push((answered, line));
    }
    for call in world.service.calls() {
        lines.push((time(&call.at), format!("service: {:?} answered {}", call.operation, call.status)));
    }
    lines.retain(|(at, _)| *at >= start);
    lines.sort();
    eprintln!("  trace of {what}, milliseconds since it was asked for, and since the line before:");
    let mut before = start;
    for (at, line) in lines {
        let since = |other: Timestamp| at.duration_since(other).as_secs_f64() * 1e3;
        eprintln!("    {:7.1} {:+7.1}  {line}", since(start), since(before));
        before = at;
    }
}
