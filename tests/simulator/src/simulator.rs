//! Starts and stops the simulator, and looks inside it from Rust.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::connection::{CuttableListener, Scissors};
use crate::hand::HandError;
use crate::model::{Environment, Moment};
use crate::record::{CallEntry, Counters, LogEntry};
use crate::service::Service;
use crate::settings::Settings;
use crate::state::ChatbotState;
use crate::{control, routes};

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A running simulator. Dropping it stops the server and ends its connections.
#[derive(Debug)]
pub struct Simulator {
    service: Arc<Service>,
    address: SocketAddr,
    all: Scissors,
    // the server runs until this is dropped
    running: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Simulator {
    /// Starts one on a free port of 127.0.0.1, on the current tokio runtime.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start(settings: Settings) -> io::Result<Self> {
        Self::start_at(ANY_PORT, settings).await
    }

    /// Starts one on this address, on the current tokio runtime.
    ///
    /// # Errors
    /// If the address is not a loopback address, or it cannot listen.
    pub async fn start_at(address: SocketAddr, settings: Settings) -> io::Result<Self> {
        if !address.ip().is_loopback() {
            let why = format!("{address} is not a loopback address");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let service = Service::new(settings);
        let all = Scissors::default();
        let (running, stopped) = watch::channel(());
        let listener = CuttableListener { listener, all: all.clone() };
        tokio::spawn(serve(listener, Arc::clone(&service), stopped));
        Ok(Self { service, address, all, running: Some(running), thread: None })
    }

    /// Starts one on a runtime and thread of its own, so that it outlives the runtime of a test
    /// and many tests can share it.
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn start_on_thread(settings: Settings) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (started, start) = mpsc::channel();
        let run = move || runtime.block_on(run_until_dropped(settings, &started));
        let thread = std::thread::Builder::new().name("simulator".to_owned()).spawn(run)?;
        let mut simulator = start.recv().map_err(io::Error::other)??;
        simulator.thread = Some(thread);
        Ok(simulator)
    }

    /// Where it listens, for example `http://127.0.0.1:12345`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads or changes the settings; they are in force when this returns.
    ///
    /// Calls wait meanwhile, so the closure must not ask this simulator for anything else.
    pub fn settings<R>(&self, change: impl FnOnce(&mut Settings) -> R) -> R {
        let mut world = self.service.world();
        let mut settings = world.settings.clone();
        let result = change(&mut settings);
        if settings != world.settings {
            world.apply(settings);
        }
        result
    }

    /// Replaces all settings.
    pub fn set(&self, settings: Settings) {
        self.service.world().apply(settings);
    }

    /// Throttles every call for so long from now on.
    pub fn throttle_for(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut world = self.service.world();
        world.buckets.throttle_all(ms, Moment::now());
    }

    /// Every change that took effect, in order.
    #[must_use]
    pub fn log(&self) -> Vec<LogEntry> {
        self.service.world().record.log.clone()
    }

    /// How often things happened.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.service.world().record.counters.clone()
    }

    /// The last 10,000 calls.
    #[must_use]
    pub fn calls(&self) -> Vec<CallEntry> {
        self.service.world().record.calls.iter().cloned().collect()
    }

    /// The truth about every chatbot.
    #[must_use]
    pub fn state(&self) -> Vec<ChatbotState> {
        self.service.world().state()
    }

    /// The truth about one chatbot, of the first account that has it.
    #[must_use]
    pub fn chatbot(&self, chatbot: &str) -> Option<ChatbotState> {
        self.state().into_iter().find(|state| state.chatbot == chatbot)
    }

    /// Forgets versions, log, counters and calls; the settings are those of the start again.
    pub fn reset(&self) {
        self.service.world().reset(false);
    }

    /// Forgets versions, log, counters and calls, but keeps the settings.
    pub fn reset_keeping_settings(&self) {
        self.service.world().reset(true);
    }

    /// Somebody deploys a version, given by id or name, in the vendor's user interface.
    ///
    /// # Errors
    /// If there is no such version.
    pub fn hand_deploy(
        &self,
        chatbot: &str,
        version: &str,
        environment: Environment,
    ) -> Result<LogEntry, HandError> {
        self.service.world().hand_deploy(chatbot, version, environment)
    }

    /// Somebody creates a version in the vendor's user interface.
    ///
    /// # Errors
    /// If the name is empty or the chatbot is refused.
    pub fn hand_create(
        &self,
        chatbot: &str,
        name: &str,
        description: Option<&str>,
    ) -> Result<LogEntry, HandError> {
        self.service.world().hand_create(chatbot, name, description)
    }

    /// Somebody deletes a version, given by id, in the vendor's user interface.
    ///
    /// # Errors
    /// If there is no such version, or it is live and that is refused.
    pub fn hand_delete(&self, chatbot: &str, version: &str) -> Result<LogEntry, HandError> {
        self.service.world().hand_delete(chatbot, version)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.all.cut();
        drop(self.running.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

// Idle connections are closed at the end; the others break at their next byte.
async fn serve(listener: CuttableListener, service: Arc<Service>, mut stopped: watch::Receiver<()>) {
    let app = routes::routes().merge(control::routes()).with_state(service);
    let app = app.into_make_service_with_connect_info::<Scissors>();
    let until_stopped = async move {
        let _ = stopped.changed().await;
    };
    let server = axum::serve(listener, app).with_graceful_shutdown(until_stopped);
    // serving has no errors of its own
    let _ = server.await;
}

// Leaving this ends the runtime of the thread, and with it whatever still hangs.
async fn run_until_dropped(settings: Settings, started: &mpsc::Sender<io::Result<Simulator>>) {
    let simulator = Simulator::start(settings).await;
    let running = simulator.as_ref().ok().and_then(|s| s.running.as_ref());
    let stopped = running.map(watch::Sender::subscribe);
    let _ = started.send(simulator);
    if let Some(mut stopped) = stopped {
        let _ = stopped.changed().await;
    }
}
