//! What stands between the operator and its servers in real networks: TLS with a private CA, and a proxy for CONNECT.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tokio_rustls::TlsAcceptor;

/// A certificate as it is written in a file.
pub fn certificate_pem(der: &[u8]) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", der))
}

/// A private CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, for `SSL_CERT_FILE`.
    pub pem: String,
}

impl Authority {
    /// A new one.
    #[expect(clippy::new_without_default, reason = "two of them differ")]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Serves TLS with a certificate for `name` in front of the server at `target`.
    pub fn serve(&self, runtime: &Runtime, name: &str, target: SocketAddr) -> SocketAddr {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        accept(runtime, move |client| {
            let acceptor = acceptor.clone();
            async move {
                // a client that does not trust us ends here
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = TcpStream::connect(target).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        })
    }
}

/// A proxy that knows servers by names that cannot be resolved.
pub struct ConnectProxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    /// A proxy that leads to these `host:port`s, for whoever sends this user and password.
    pub fn start(runtime: &Runtime, servers: &[(&str, SocketAddr)], basic_auth: &'static str) -> Self {
        let servers: BTreeMap<String, SocketAddr> =
            servers.iter().map(|(name, address)| ((*name).to_owned(), *address)).collect();
        let (servers, asked) = (Arc::new(servers), Arc::<Mutex<Vec<String>>>::default());
        let seen = asked.clone();
        let address =
            accept(runtime, move |client| tunnel(client, servers.clone(), seen.clone(), basic_auth));
        Self { address, asked }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The servers that were asked for.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn tunnel(
    client: TcpStream,
    servers: Arc<BTreeMap<String, SocketAddr>>,
    asked: Arc<Mutex<Vec<String>>>,
    basic_auth: &str,
) {
    let mut client = BufReader::new(client);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if client.read_line(&mut head).await.unwrap_or_default() == 0 {
            return;
        }
    }
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    asked.lock().unwrap().push(target.to_owned());
    let wanted = format!("proxy-authorization: basic {basic_auth}").to_lowercase();
    let refusal = match servers.get(target) {
        _ if !head.to_lowercase().contains(&wanted) => "407 Proxy Authentication Required",
        None => "502 Bad Gateway",
        Some(address) => {
            let mut server = TcpStream::connect(address).await.unwrap();
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            let _ = copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    };
    let _ = client.write_all(format!("HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await;
}

/// Accepts connections on a free port until the runtime ends.
fn accept<F: Future<Output = ()> + Send + 'static>(
    runtime: &Runtime,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client));
        }
    });
    address
}
