//! A TCP relay between the operator and a server. Disconnected, it refuses connections and closes the open ones.
//! Frozen, the open connections stay open and deliver nothing more.

use std::{
    io::{self, Read, copy},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// The relay.
pub struct Relay {
    address: SocketAddr,
    target: SocketAddr,
    listening: Mutex<Option<Listening>>,
    /// Shared by the connections that are open now.
    frozen: Arc<Mutex<Frozen>>,
}

/// Whether a connection is frozen.
type Frozen = Arc<AtomicBool>;

struct Listening {
    ended: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    accepting: thread::JoinHandle<()>,
}

impl Relay {
    /// A relay to `target` that is not connected yet.
    pub fn disconnected(target: SocketAddr) -> Self {
        Self::disconnected_at(Ipv4Addr::LOCALHOST.into(), target)
    }

    /// The same at another address of this machine.
    pub fn disconnected_at(ip: IpAddr, target: SocketAddr) -> Self {
        // the port is kept by its number alone; it lies among those that few ask for by chance
        let address = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap();
        Self { address, target, listening: Mutex::default(), frozen: Arc::default() }
    }

    /// Where the operator finds the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL of plain HTTP.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The open connections deliver nothing more; new ones work.
    pub fn freeze(&self) {
        let open = std::mem::take(&mut *self.frozen.lock().unwrap());
        open.store(true, Ordering::SeqCst);
    }

    /// Accepts connections from now on.
    pub fn connect(&self) {
        let listener = TcpListener::bind(self.address).unwrap();
        let (ended, open) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<TcpStream>>>::default());
        let (over, streams) = (ended.clone(), open.clone());
        let (target, frozen) = (self.target, self.frozen.clone());
        let accepting = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(server) = TcpStream::connect(target) else { continue };
                join(&client, &server, &frozen.lock().unwrap());
                streams.lock().unwrap().extend([client, server]);
            }
        });
        *self.listening.lock().unwrap() = Some(Listening { ended, open, accepting });
    }

    /// Closes all connections and refuses new ones.
    pub fn disconnect(&self) {
        let Some(listening) = self.listening.lock().unwrap().take() else { return };
        listening.ended.store(true, Ordering::SeqCst);
        // unblocks the thread that accepts
        drop(TcpStream::connect(self.address));
        listening.accepting.join().unwrap();
        for stream in listening.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.disconnect();
    }
}

/// Copies both ways until either side ends.
fn join(client: &TcpStream, server: &TcpStream, frozen: &Frozen) {
    for (from, to) in [(client, server), (server, client)] {
        let (from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let mut from = Freezing(from, frozen.clone());
        thread::spawn(move || {
            let _ = copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}

/// A stream that carries no data while it is frozen.
struct Freezing(TcpStream, Frozen);

impl Read for Freezing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        // an end is no news either, but no thread is left to wait for it
        while read > 0 && self.1.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(100));
        }
        Ok(read)
    }
}
