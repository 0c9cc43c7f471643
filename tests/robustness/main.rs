//! Whatever the service answers: a defined failure class, bounded memory, no panic.
//!
//! `corpus/` holds answers that must come out as their file names say:
//! `<call>.<status>.<outcome>.<what it is>`. The rest is generated from a seed: `SEED=<printed seed>` repeats it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod corpus;
mod generated_answers;
mod memory;
mod server;

use std::{fmt::Debug, sync::LazyLock, time::Duration};

use chatcaptain_operator::chatcaptain::{
    ApiCall, ApiClient, ApiKey, ChatbotId, DeploymentStatus, Failure, FailureClass, Inventory, NewVersion,
    VersionId,
};
use tokio::runtime::Runtime;

use server::{Answer, Server};

const KEY: &str = "CCSB-robustness-Qm3xVt7LpZ";

/// The outcome of a call.
#[derive(Debug)]
enum Came {
    List(Inventory),
    Status(#[expect(dead_code, reason = "shown where a test fails")] DeploymentStatus),
    Written(Option<VersionId>),
    Failed(Failure),
}

impl Came {
    /// The metric label, which the corpus uses, too.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Failed(failure) => failure.class.as_str(),
            _ => "ok",
        }
    }
}

/// A service with configurable answers, and the operator's client of it.
struct Client {
    server: Server,
    caller: Caller,
}

/// The operator's side.
struct Caller {
    service: ApiClient,
    runtime: Runtime,
}

impl Client {
    fn new() -> Self {
        let server = Server::start();
        let caller = Caller::of(&server.url);
        Self { server, caller }
    }

    /// Makes a call that is answered like this.
    fn ask(&self, call: ApiCall, answer: Answer) -> Came {
        self.server.say(answer);
        self.caller.ask(call)
    }
}

impl Caller {
    fn of(url: &str) -> Self {
        static PROVIDER: LazyLock<()> = LazyLock::new(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        LazyLock::force(&PROVIDER);
        let service = ApiClient::new(url.parse().unwrap(), None, Duration::from_mins(1)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { service, runtime }
    }

    /// The lists of so many chatbots, asked for at the same time and kept.
    fn lists(&self, count: usize) -> (Vec<Inventory>, Vec<Failure>) {
        let key = ApiKey::parse(KEY).unwrap();
        let bots: Vec<_> = (0..count).map(|n| ChatbotId::parse(&format!("bot{n}")).unwrap()).collect();
        let lists = bots.iter().map(|bot| self.service.list(&key, bot));
        let (mut kept, mut failed) = (Vec::new(), Vec::new());
        for list in self.runtime.block_on(futures::future::join_all(lists)) {
            match list {
                Ok(inventory) => kept.push(inventory),
                Err(failure) => failed.push(failure),
            }
        }
        (kept, failed)
    }

    /// Makes a call, and asserts what must hold for every outcome.
    fn ask(&self, call: ApiCall) -> Came {
        let (key, bot) = (ApiKey::parse(KEY).unwrap(), ChatbotId::parse("bot").unwrap());
        let version = VersionId::parse("vrs1").unwrap();
        let came = self.runtime.block_on(async {
            let service = &self.service;
            let body = serde_json::json!({"environment": "test"});
            match call {
                ApiCall::List => service.list(&key, &bot).await.map(Came::List),
                ApiCall::Status => service.status(&key, &bot).await.map(Came::Status),
                ApiCall::Create => service.create(&key, &bot, &new()).await.map(Came::Written),
                ApiCall::Delete => service.delete(&key, &bot, &version).await.map(|()| Came::Written(None)),
                ApiCall::Deploy => {
                    service.deploy(&key, &bot, &version, "test").await.map(|()| Came::Written(None))
                }
                ApiCall::Rollback => {
                    service.rollback(&key, &bot, &version, &body).await.map(|()| Came::Written(None))
                }
            }
        });
        let came = came.unwrap_or_else(Came::Failed);
        is_fit_to_show(&came);
        came
    }
}

fn new() -> NewVersion {
    NewVersion { name: "a".to_owned(), description: "b".to_owned(), environment: "dev" }
}

fn is_write(call: ApiCall) -> bool {
    !matches!(call, ApiCall::List | ApiCall::Status)
}

/// Messages become conditions, ids become paths: neither may carry more than it should.
fn is_fit_to_show(came: &Came) {
    match came {
        Came::Failed(failure) => {
            let message = &failure.message;
            assert!(message.chars().count() <= 201, "{message}");
            assert!(!message.chars().any(char::is_control), "{message:?}");
            assert!(!message.contains(KEY), "{message}");
            assert!(!message.is_empty());
            if let FailureClass::Throttled { retry_after: Some(pause) } = failure.class {
                assert!(pause <= Duration::from_hours(1), "{pause:?}");
            }
        }
        Came::List(inventory) => {
            for version in inventory.versions() {
                is_one_segment(version.id.as_str());
            }
        }
        Came::Written(id) => id.iter().for_each(|id| is_one_segment(id.as_str())),
        Came::Status(_) => {}
    }
}

fn is_one_segment(id: &str) {
    assert!(!matches!(id, "" | "." | ".."), "{id:?}");
    assert!(id.len() <= 256 && !id.chars().any(char::is_control), "{id:?}");
}
