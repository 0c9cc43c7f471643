//! A service that sends the configured answer, byte by byte.

use std::{
    io::{BufRead, BufReader, BufWriter, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// What every request is answered with.
#[derive(Clone)]
pub enum Answer {
    /// A status and a body.
    Body(u16, Vec<u8>),
    /// A status and a body of these parts: the first, then the second so many times, then the third.
    Long(u16, &'static str, &'static str, usize, &'static str),
    /// A list of so many versions, each with an id of its own.
    Versions(usize),
    /// These bytes and the end of the connection.
    Raw(Vec<u8>),
}

/// The service.
pub struct Server {
    pub url: String,
    answer: Arc<Mutex<Answer>>,
}

impl Server {
    /// Listens until the process ends.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(Answer::Raw(Vec::new())));
        let current = answer.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let answer = current.lock().unwrap().clone();
                // a client that has seen enough goes
                thread::spawn(move || drop(serve(client, &answer)));
            }
        });
        Self { url, answer }
    }

    pub fn say(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }
}

/// One request, one answer, and the end of the connection.
fn serve(client: TcpStream, answer: &Answer) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    reader.take(length).read_to_end(&mut Vec::new())?;
    let mut client = client;
    let head = |status: &u16| {
        format!("HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n")
    };
    match answer {
        Answer::Body(status, body) => {
            client.write_all(head(status).as_bytes())?;
            client.write_all(body)
        }
        Answer::Long(status, start, part, times, end) => {
            client.write_all(head(status).as_bytes())?;
            client.write_all(start.as_bytes())?;
            let many = part.repeat(1000);
            for _ in 0..times / 1000 {
                client.write_all(many.as_bytes())?;
            }
            client.write_all(end.as_bytes())
        }
        Answer::Versions(count) => {
            client.write_all(head(&200).as_bytes())?;
            write_versions(client, *count)
        }
        Answer::Raw(bytes) => client.write_all(bytes),
    }
}

fn write_versions(client: TcpStream, count: usize) -> std::io::Result<()> {
    let mut client = BufWriter::new(client);
    client.write_all(br#"{"versions":["#)?;
    let description = "text ".repeat(30);
    for number in 0..count {
        write!(
            client,
            r#"{{"id":"vrs{number:010}","name":"v{number}","description":"{description}","versionNumber":"1.{number}","created":"2026-01-01T00:00:00Z"}},"#
        )?;
    }
    client.write_all(br#"{"id":"last"}]}"#)?;
    client.flush()
}
