//! Many versions: nothing is lost, nothing is doubled, long lists work.

use std::collections::HashSet;
use std::thread;

use serde_json::Value;

use crate::client::Service;

fn ids(versions: &[Value]) -> HashSet<String> {
    let ids = versions.iter().map(|v| v["id"].as_str().unwrap().to_owned());
    ids.collect()
}

#[test]
fn a_thousand_creates_at_sixteen_at_a_time() {
    let service = Service::friendly();
    thread::scope(|scope| {
        for worker in 0..16 {
            let service = &service;
            scope.spawn(move || {
                for number in (worker..1000).step_by(16) {
                    assert_eq!(service.create(&format!("v{number}"), "dev").status, 200);
                }
            });
        }
    });
    let versions = service.versions();
    assert_eq!((versions.len(), ids(&versions).len()), (1000, 1000));
    let counters = service.simulator.counters();
    assert_eq!((counters.create.calls, counters.create.took_effect), (1000, 1000));
    let sequences: Vec<u64> = service.simulator.log().iter().map(|e| e.sequence).collect();
    assert!(sequences.into_iter().eq(1..=1000));
}

#[test]
fn ten_thousand_versions_in_one_list() {
    let service = Service::friendly();
    for number in 0..10_000 {
        let name = format!("v{number}");
        service.simulator.hand_create("bot", &name, Some("one of many")).unwrap();
    }
    let versions = service.versions();
    assert_eq!((versions.len(), ids(&versions).len()), (10_000, 10_000));
    assert_eq!(versions[9_999]["versionNumber"], "1.9999");
}

#[test]
fn the_last_ten_thousand_calls_are_kept() {
    let service = Service::friendly();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..1_255 {
                    service.status();
                }
            });
        }
    });
    assert_eq!(service.simulator.calls().len(), 10_000);
    assert_eq!(service.simulator.counters().status.calls, 10_040);
}
