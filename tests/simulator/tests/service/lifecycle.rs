//! Starting and stopping from Rust: on a runtime that is there, and on a thread.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;
use simulator::{Fault, FaultKind, FaultOperation, Settings, Simulator};

use crate::client::{Service, eventually, request};

async fn versions(address: SocketAddr) -> String {
    let path = "/v1/chatbots/bot/versions";
    let call = move || request(address, "CCSB-x", "GET", path, "").unwrap();
    let bytes = tokio::task::spawn_blocking(call).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn it_runs_on_the_runtime_of_a_test() {
    let simulator = Simulator::start(Settings::default()).await.unwrap();
    assert_eq!(simulator.url(), format!("http://{}", simulator.address()));
    simulator.hand_create("bot", "a", None).unwrap();
    assert!(versions(simulator.address()).await.contains("\"name\":\"a\""));
}

#[tokio::test]
async fn dropping_it_stops_the_server() {
    let simulator = Simulator::start(Settings::default()).await.unwrap();
    let address = simulator.address();
    versions(address).await;
    drop(simulator);
    let refused = tokio::task::spawn_blocking(move || {
        eventually("nobody listens", || TcpStream::connect(address).is_err());
    });
    refused.await.unwrap();
}

fn hanging(ms: u64) -> Settings {
    let mut fault = Fault::new(FaultOperation::Any, FaultKind::Hang);
    fault.hang_ms = ms;
    Settings { faults: vec![fault], ..Settings::default() }
}

/// What a client gets whose call hangs when the simulator is dropped.
async fn dropped_amid_a_call(simulator: Simulator) -> String {
    let call = tokio::spawn(versions(simulator.address()));
    let dropped = tokio::task::spawn_blocking(move || {
        eventually("the call", || simulator.counters().total_calls() == 1);
        drop(simulator);
    });
    dropped.await.unwrap();
    call.await.unwrap()
}

#[tokio::test]
async fn dropping_it_leaves_hanging_calls_unanswered() {
    let simulator = Simulator::start(hanging(200)).await.unwrap();
    assert_eq!(dropped_amid_a_call(simulator).await, "");
}

#[tokio::test]
async fn dropping_one_on_a_thread_ends_hanging_calls_at_once() {
    let simulator = Simulator::start_on_thread(hanging(3_600_000)).unwrap();
    let address = simulator.address();
    assert_eq!(dropped_amid_a_call(simulator).await, "");
    assert!(TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn only_loopback_addresses_are_listened_on() {
    let address = "0.0.0.0:0".parse().unwrap();
    let error = Simulator::start_at(address, Settings::default()).await.unwrap_err();
    assert!(error.to_string().contains("not a loopback address"));
}

#[test]
fn connections_are_kept_for_the_next_call() {
    let service = Service::friendly();
    let mut stream = TcpStream::connect(service.simulator.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let text = "GET /v1/chatbots/bot/versions HTTP/1.1\r\nhost: s\r\nx-chatcaptain-key: CCSB-x\r\n\r\n";
    for _ in 0..3 {
        stream.write_all(text.as_bytes()).unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"{\"versions\":[]}") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
    }
    // a cut ends a connection that has been used before
    service.patch(json!({"faults": [{"kind": "cut"}]}));
    stream.write_all(text.as_bytes()).unwrap();
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => assert!(rest.is_empty()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}
