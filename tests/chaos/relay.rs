//! A wire between the operator and the service that can be pulled: nobody listens then, and what was open is cut.

use std::{
    io::copy,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// The wire.
pub struct Relay {
    address: SocketAddr,
    target: SocketAddr,
    plugged: Mutex<Option<Plugged>>,
}

struct Plugged {
    ended: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    accepting: thread::JoinHandle<()>,
}

impl Relay {
    /// A wire to `target`, pulled.
    pub fn pulled(target: SocketAddr) -> Self {
        // the port is kept by its number alone; it lies among those that few ask for by chance
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { address, target, plugged: Mutex::default() }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on calls go through.
    pub fn plug(&self) {
        let listener = TcpListener::bind(self.address).unwrap();
        let (ended, open) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<TcpStream>>>::default());
        let (over, streams, target) = (ended.clone(), open.clone(), self.target);
        let accepting = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(server) = TcpStream::connect(target) else { continue };
                join(&client, &server);
                streams.lock().unwrap().extend([client, server]);
            }
        });
        *self.plugged.lock().unwrap() = Some(Plugged { ended, open, accepting });
    }

    /// Everything that is open is cut, and nobody listens any more.
    pub fn pull(&self) {
        let Some(plugged) = self.plugged.lock().unwrap().take() else { return };
        plugged.ended.store(true, Ordering::SeqCst);
        // wakes the thread that accepts
        drop(TcpStream::connect(self.address));
        plugged.accepting.join().unwrap();
        for stream in plugged.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.pull();
    }
}

/// Copies both ways until either side ends.
fn join(client: &TcpStream, server: &TcpStream) {
    for (from, to) in [(client, server), (server, client)] {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        thread::spawn(move || {
            let _ = copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}
