//! The network as the environment describes it: which proxy leads to a server, and what an error on the way means.
//!
//! `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, also in lower case, mean what they mean to curl. The password in the URL of
//! a proxy never reaches a message.

use std::{env, error::Error, io, iter::successors, time::Duration};

use hyper_util::client::proxy::matcher::Matcher;
use rustls::CertificateError;
use url::{Host, Url};

/// The variables that name a proxy, in the order in which they are read.
const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// Short, to distinguish an unreachable server from a slow one: only the former proves that nothing was sent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const NO_PROXY_VARIABLES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// A proxy, and the variable that names it.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// With user and password, where it has them.
    pub url: Url,
    /// For messages, instead of the URL.
    pub variable: &'static str,
}

/// The proxy that leads to an `https://` URL; `None` if it is reached directly. Loopback addresses always are.
///
/// # Errors
/// When the variable holds no URL of a proxy that is supported.
pub fn proxy_for(target: &Url) -> Result<Option<Proxy>, String> {
    proxy_from(target, |name| env::var(name).ok())
}

/// What every client of ours has in common: it takes the proxy that the caller has read from the environment and no other,
/// follows no redirect, and repeats nothing by itself.
///
/// # Errors
/// When the URL of the proxy cannot be used.
pub fn http_client(
    proxy: Option<Proxy>,
    timeout: Duration,
) -> Result<reqwest::ClientBuilder, reqwest::Error> {
    let http = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .timeout(timeout)
        // a redirect would send what is secret to another address
        .redirect(reqwest::redirect::Policy::none())
        // only the caller knows what may be repeated
        .retry(reqwest::retry::never())
        .no_proxy()
        // a request is small, and would wait for the acknowledgement of the one before
        .tcp_nodelay(true)
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")));
    Ok(match proxy {
        Some(proxy) => http.proxy(reqwest::Proxy::all(proxy.url)?),
        None => http,
    })
}

fn proxy_from(
    target: &Url,
    variable: impl Fn(&'static str) -> Option<String>,
) -> Result<Option<Proxy>, String> {
    let set = |name| variable(name).filter(|value| !value.trim().is_empty()).map(|value| (name, value));
    let Some((name, value)) = PROXY_VARIABLES.into_iter().find_map(set) else { return Ok(None) };
    let exempt = NO_PROXY_VARIABLES.into_iter().find_map(set).map(|(_, list)| list).unwrap_or_default();
    if target.scheme() != "https" || is_loopback(target) {
        return Ok(None);
    }
    let unusable =
        || format!("{name} names no usable proxy; set it to http://<host>:<port> or https://<host>:<port>");
    let with_scheme =
        if value.contains("://") { value.trim().to_owned() } else { format!("http://{}", value.trim()) };
    let url = Url::parse(&with_scheme).map_err(|_| unusable())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(unusable());
    }
    let matcher = Matcher::builder().https(url.as_str()).no(exempt).build();
    let target = target.as_str().parse().map_err(|_| "the URL has no host".to_owned())?;
    Ok(matcher.intercept(&target).map(|_| Proxy { url, variable: name }))
}

/// Whether the URL leads to this machine.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The errors from the outermost to the one that caused it, each text once.
#[must_use]
pub fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for cause in causes(error) {
        let cause = cause.to_string();
        // many an error repeats its source
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

/// What is wrong with a server's certificate and what to do, if that is why a request failed. Without a time, so that it is
/// the same for every request.
#[must_use]
pub fn certificate_problem(error: &(dyn Error + 'static)) -> Option<String> {
    let rustls::Error::InvalidCertificate(problem) = causes(error).find_map(tls_error)? else { return None };
    Some(match problem {
        // the signature is bad where another CA has the same name
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is signed by an unknown authority; set SSL_CERT_FILE to a \
            PEM file with the CA certificates that the operator is to trust"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another host name; use a URL with a name that the certificate contains"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired; renew it on the server".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; compare the clocks of the server and of this node".to_owned()
        }
        _ => "its certificate is not valid; replace it on the server".to_owned(),
    })
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    fn source<'a>(error: &&'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
        (*error).source()
    }
    successors(Some(error), source)
}

fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    // what an I/O error wraps is no source of it, and may be one itself
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    tls_error(inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// The URL of the proxy in an environment, or the error.
    fn proxy(target: &str, environment: &[(&str, &str)]) -> Result<Option<String>, String> {
        let variable = |name: &str| {
            environment.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        };
        let found = proxy_from(&Url::parse(target).unwrap(), variable)?;
        Ok(found.map(|proxy| format!("{} {}", proxy.variable, proxy.url)))
    }

    #[test]
    fn proxy_is_the_first_that_is_set() {
        let of = |environment| proxy("https://a.example", environment).unwrap();
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("HTTPS_PROXY", " "), ("HTTP_PROXY", "http://p:1")]), None);
        assert_eq!(of(&[("https_proxy", "p:1")]).as_deref(), Some("https_proxy http://p:1/"));
        let both = &[("ALL_PROXY", "http://all:1"), ("HTTPS_PROXY", "http://u:s@p:1")];
        assert_eq!(of(both).as_deref(), Some("HTTPS_PROXY http://u:s@p:1/"));
    }

    #[test]
    fn no_proxy_and_loopback_are_reached_directly() {
        let direct = |target: &str, no_proxy: &str| {
            proxy(target, &[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", no_proxy)]).unwrap().is_none()
        };
        for target in ["https://localhost:1", "https://127.1.2.3", "https://[::1]:1"] {
            assert!(direct(target, ""), "{target}");
        }
        for no_proxy in ["a.example", ".example", "x, example", "*", "a.example,"] {
            assert!(direct("https://a.example", no_proxy), "{no_proxy}");
        }
        assert!(direct("https://10.1.2.3", "10.0.0.0/8"));
        assert!(direct("https://[fd00::1]:443", "fd00::/8"));
        for no_proxy in ["", "b.example", "10.0.0.0/8", "p"] {
            assert!(!direct("https://a.example", no_proxy), "{no_proxy}");
        }
    }

    #[test]
    fn unusable_proxy_is_an_error_without_its_password() {
        for value in ["socks5://u:secret@p:1", "http://", "http://u:secret@p:port"] {
            let error = proxy("https://a.example", &[("HTTPS_PROXY", value)]).unwrap_err();
            assert!(error.starts_with("HTTPS_PROXY names no usable proxy; set it to http://"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert_eq!(proxy("https://localhost", &[("HTTPS_PROXY", "http://")]), Ok(None));
    }

    #[test]
    fn certificate_problem_is_found_within_an_io_error() {
        let problem = |error: rustls::Error| certificate_problem(&io::Error::other(io::Error::other(error)));
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(problem(unknown).unwrap().contains("set SSL_CERT_FILE"));
        let name = rustls::Error::InvalidCertificate(CertificateError::NotValidForName);
        assert!(problem(name).unwrap().contains("another host name"));
        assert_eq!(problem(rustls::Error::DecryptError), None);
    }

    #[test]
    fn causes_are_described_once_each() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        assert_eq!(describe(&Outer(io::Error::other("inner"))), "outer: inner");
        assert_eq!(describe(&io::Error::other("inner")), "inner");
    }
}
