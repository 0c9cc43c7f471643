//! A raw HTTP client and the few calls the tests make, so that nothing hides a cut connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulator::{Settings, Simulator};

const PATIENCE: Duration = Duration::from_secs(20);

/// A simulator and a key for it.
pub struct Service {
    pub simulator: Simulator,
    pub key: String,
}

/// An answer as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }
}

impl Service {
    /// A friendly service with these settings changed.
    pub fn with(patch: Value) -> Self {
        let service = Self {
            simulator: Simulator::start_on_thread(Settings::default()).unwrap(),
            key: "CCSB-test-0001".to_owned(),
        };
        service.patch(patch);
        service
    }

    pub fn friendly() -> Self {
        Self::with(json!({}))
    }

    pub fn patch(&self, patch: Value) {
        let answer = self.call("PATCH", "/_simulator/settings", Some(patch));
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// All bytes the service sends before it ends the connection.
    pub fn bytes(&self, method: &str, path: &str, body: Option<Value>) -> Vec<u8> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        request(self.simulator.address(), &self.key, method, path, &body).unwrap()
    }

    pub fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let bytes = self.bytes(method, path, body);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("an HTTP answer");
        Answer { status: head[9..12].parse().unwrap(), head: head.to_owned(), body: body.to_owned() }
    }

    pub fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, Some(body))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None)
    }

    /// Creates a version of the chatbot `bot`.
    pub fn create(&self, name: &str, environment: &str) -> Answer {
        let body = json!({"name": name, "description": "as told", "environment": environment});
        self.post("/v1/chatbots/bot/versions", body)
    }

    /// Creates a version for `dev` and tells its id.
    pub fn created(&self, name: &str) -> String {
        let answer = self.create(name, "dev");
        answer.json()["version"]["id"].as_str().unwrap().to_owned()
    }

    pub fn versions(&self) -> Vec<Value> {
        let list = self.get("/v1/chatbots/bot/versions");
        assert_eq!(list.status, 200, "{}", list.body);
        list.json()["versions"].as_array().unwrap().clone()
    }

    pub fn deploy(&self, id: &str, environment: &str) -> Answer {
        let path = format!("/v1/chatbots/bot/versions/{id}/deploy");
        self.post(&path, json!({"environment": environment}))
    }

    pub fn rollback(&self, id: &str, body: Value) -> Answer {
        self.post(&format!("/v1/chatbots/bot/versions/{id}/rollback"), body)
    }

    pub fn delete(&self, id: &str) -> Answer {
        self.call("DELETE", &format!("/v1/chatbots/bot/versions/{id}"), None)
    }

    pub fn status(&self) -> Answer {
        self.get("/v1/chatbots/bot/deployments/status")
    }

    /// The number of the version that is live there, as the API tells it.
    pub fn live(&self, environment: &str) -> Option<String> {
        let status = self.status().json();
        status[environment]["version"].as_str().map(str::to_owned)
    }

    /// Sends a create and closes the connection once the call has arrived, before its answer.
    pub fn send_and_leave(&self, body: &Value) {
        let calls = || self.simulator.counters().total_calls();
        let before = calls();
        let mut stream = TcpStream::connect(self.simulator.address()).unwrap();
        let text = text(&self.key, "POST", "/v1/chatbots/bot/versions", &body.to_string());
        stream.write_all(text.as_bytes()).unwrap();
        eventually("the call arrives", || calls() > before);
    }

    /// The operations that took effect.
    pub fn effects(&self) -> Vec<String> {
        let log = serde_json::to_value(self.simulator.log()).unwrap();
        let entries = log.as_array().unwrap().iter();
        entries.map(|entry| entry["operation"].as_str().unwrap().to_owned()).collect()
    }
}

/// Sends one request and reads until the other side ends the connection.
pub fn request(address: SocketAddr, key: &str, method: &str, path: &str, body: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(text(key, method, path, body).as_bytes())?;
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // a reset is an end like any other
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(bytes),
        Err(error) => Err(error),
        Ok(_) => Ok(bytes),
    }
}

fn text(key: &str, method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    let key = match key {
        "" => String::new(),
        key => format!("x-chatcaptain-key: {key}\r\n"),
    };
    format!(
        "{method} {path} HTTP/1.1\r\nhost: simulator\r\nconnection: close\r\n{key}\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// Waits until something holds.
pub fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
