//! Random faults between the operator and the service.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use simulator::{Fault, FaultKind, FaultOperation, RetryAfter, Settings, Simulator, Throttle};

/// The client gives up after this; a late effect comes later, but within the grace.
pub const API_TIMEOUT: &str = "2s";
pub const GRACE: &str = "5s";

const WRITES: [FaultOperation; 4] =
    [FaultOperation::Create, FaultOperation::Delete, FaultOperation::Deploy, FaultOperation::Rollback];
/// Faults of a write.
const CHANGES: [FaultKind; 9] = [
    FaultKind::Error500,
    FaultKind::Error500After,
    FaultKind::Html502,
    FaultKind::Html502After,
    FaultKind::Html504After,
    FaultKind::Cut,
    FaultKind::CutAfter,
    FaultKind::Garbage,
    FaultKind::Hang,
];
/// The effect comes after the client has given up, when git may have changed.
const LATE: [FaultKind; 2] = [FaultKind::LateEffect, FaultKind::HangLate];
const READS: [FaultKind; 5] =
    [FaultKind::Error500, FaultKind::Html502, FaultKind::Cut, FaultKind::Garbage, FaultKind::Hang];

/// Sets new random faults; returns how many.
pub fn change(service: &Simulator, random: &mut StdRng) -> usize {
    let mut faults = Vec::new();
    for operation in WRITES {
        for _ in 0..random.random_range(0..3) {
            faults.push(fault(operation, *CHANGES.choose(random).unwrap(), random));
        }
        if random.random_bool(0.5) {
            faults.push(fault(operation, *LATE.choose(random).unwrap(), random));
        }
    }
    for operation in [FaultOperation::List, FaultOperation::Status] {
        if random.random_bool(0.4) {
            faults.push(fault(operation, *READS.choose(random).unwrap(), random));
        }
    }
    let count = faults.len();
    let (latency, delay) = (random.random_range(0..80), *[0, 0, 400, 1200].choose(random).unwrap());
    service.settings(|settings| {
        settings.faults = faults;
        settings.latency_ms = latency;
        settings.list_delay_ms = delay;
    });
    count
}

fn fault(operation: FaultOperation, kind: FaultKind, random: &mut StdRng) -> Fault {
    let mut fault = Fault::new(operation, kind);
    fault.probability = random.random_range(0.1..0.5);
    fault.hang_ms = random.random_range(200..3_000);
    // at most a second after the client has given up, and with the list's delay still within the grace
    fault.late_ms = random.random_range(300..3_000);
    fault
}

/// Throttles for a while, with a random status.
pub fn throttle(service: &Simulator, random: &mut StdRng) {
    let answer = *[429, 403, 503].choose(random).unwrap();
    let retry_after = *[RetryAfter::None, RetryAfter::Seconds, RetryAfter::Date].choose(random).unwrap();
    service.settings(|settings| {
        settings.throttle = Some(Throttle { answer, retry_after, ..Throttle::default() });
        settings.retry_after_seconds = 1;
    });
    service.throttle_for(Duration::from_millis(random.random_range(300..2_000)));
}

/// Ends all faults.
pub fn clear(service: &Simulator) {
    service.throttle_for(Duration::ZERO);
    let delete_live = service.settings(|settings| settings.delete_live);
    service.set(Settings { delete_live, ..Settings::default() });
}
