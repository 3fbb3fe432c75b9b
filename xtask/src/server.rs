//! A static file server with the headers that allow a page to use threads and precise clocks.
//!
//! It supports HTTP/1.1 with the methods GET and HEAD, with one thread for each connection, and uses only the standard
//! library.

use crate::models::{self, Model};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Headers for cross-origin isolation, without which there is no SharedArrayBuffer and clocks are coarse.
const HEADERS: [(&str, &str); 5] = [
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Embedder-Policy", "require-corp"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
];

/// The largest number of bytes of a request's first line and headers.
const MAX_REQUEST_BYTES: u64 = 16 << 10;

/// The time after which an idle connection is closed.
const IDLE: Duration = Duration::from_secs(60);

/// The files that are served.
pub struct Site {
    /// The folder of the built page.
    pub root: PathBuf,
    /// Further folders, each with the path under which it is served.
    pub mounts: Vec<(String, PathBuf)>,
    /// The models, which are served under `/models/`, with a list in `/models/index.json`.
    pub models: Mutex<Vec<Model>>,
    /// Whether another model may follow.
    pub expected: AtomicBool,
}

/// The result of looking up a request's path.
#[derive(Debug, PartialEq)]
enum Found {
    Text(String),
    File(PathBuf),
}

impl Site {
    fn models(&self) -> MutexGuard<'_, Vec<Model>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the models that are served.
    pub fn offer(&self, models: Vec<Model>) {
        *self.models() = models;
    }

    /// Announces that no other model will follow.
    pub fn expect_no_more(&self) {
        self.expected.store(false, Ordering::Relaxed);
    }

    fn find(&self, url: &str) -> Option<Found> {
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let path = decode(path)?;
        let path = path.strip_prefix('/')?;
        if path == "models/index.json" {
            let expected = self.expected.load(Ordering::Relaxed);
            return Some(Found::Text(models::index(&self.models(), expected).to_string()));
        }
        if let Some(id) = path.strip_prefix("models/").and_then(|name| name.strip_suffix(".safetensors")) {
            return self.models().iter().find(|m| m.id == id).map(|m| Found::File(m.path.clone()));
        }
        let mounted = self.mounts.iter().find_map(|(at, folder)| {
            let rest = path.strip_prefix(at.as_str())?.strip_prefix('/')?;
            Some((folder.as_path(), rest))
        });
        let (folder, rest) = mounted.unwrap_or((&self.root, path));
        inside(folder, rest).map(Found::File)
    }
}

/// The path of a file inside a folder. Rejects paths that lead out of the folder, hidden files, and links to other
/// places.
fn inside(folder: &Path, path: &str) -> Option<PathBuf> {
    let path = if path.is_empty() || path.ends_with('/') { format!("{path}index.html") } else { path.to_owned() };
    if path.split('/').any(|part| part.is_empty() || part.starts_with('.') || part.contains(['\\', ':', '\0'])) {
        return None;
    }
    let folder = folder.canonicalize().ok()?;
    let file = folder.join(path).canonicalize().ok()?;
    (file.starts_with(folder) && file.is_file()).then_some(file)
}

/// Decodes percent-encoding. Returns `None` if an escape is malformed or the path is not UTF-8.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let hex = tail.get(..2).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit))?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

fn mime(path: &Path) -> &'static str {
    match path.extension().and_then(|e| e.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "txt" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// A server on a local port.
pub struct Server {
    listener: TcpListener,
    site: Arc<Site>,
}

impl Server {
    pub fn bind(port: u16, site: Site) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))
            .with_context(|| format!("cannot serve on port {port}; choose another one with --port"))?;
        Ok(Server { listener, site: Arc::new(site) })
    }

    pub fn site(&self) -> Arc<Site> {
        Arc::clone(&self.site)
    }

    pub fn port(&self) -> Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Serves requests until the process ends.
    pub fn serve(&self) {
        for stream in self.listener.incoming().flatten() {
            let site = Arc::clone(&self.site);
            // Errors are ignored, because browsers may close connections at any time.
            thread::spawn(move || site.serve_connection(&stream));
        }
    }
}

/// The response to a request.
struct Answer {
    status: &'static str,
    mime: &'static str,
    cache: &'static str,
    length: u64,
    body: Box<dyn Read>,
}

impl Answer {
    fn text(status: &'static str, mime: &'static str, body: String) -> Self {
        let cache = "no-cache";
        Answer { status, mime, cache, length: body.len() as u64, body: Box::new(io::Cursor::new(body)) }
    }

    fn plain(status: &'static str) -> Self {
        Answer::text(status, "text/plain; charset=utf-8", format!("{status}\n"))
    }
}

impl Site {
    /// Serves the requests of a connection, until it is closed or idle for too long.
    fn serve_connection(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(IDLE))?;
        let mut reader = BufReader::new(stream);
        let mut writer = BufWriter::new(stream);
        while let Some([method, url]) = request(&mut reader)? {
            let answer = if matches!(&*method, "GET" | "HEAD") {
                self.answer(&url)
            } else {
                Answer::plain("405 Method Not Allowed")
            };
            write!(writer, "HTTP/1.1 {}\r\n", answer.status)?;
            let own = [("Content-Type", answer.mime), ("Cache-Control", answer.cache)];
            for (name, value) in HEADERS.iter().chain(&own) {
                write!(writer, "{name}: {value}\r\n")?;
            }
            write!(writer, "Content-Length: {}\r\n\r\n", answer.length)?;
            if method != "HEAD" {
                io::copy(&mut answer.body.take(answer.length), &mut writer)?;
            }
            writer.flush()?;
            if !matches!(&*method, "GET" | "HEAD") {
                // The body of the request is not read, so it would be taken for the next request.
                break;
            }
        }
        Ok(())
    }

    fn answer(&self, url: &str) -> Answer {
        match self.find(url) {
            Some(Found::Text(json)) => Answer::text("200 OK", "application/json", json),
            Some(Found::File(path)) => {
                // Vite names these files by their content, so they never change.
                let hashed = url.starts_with("/assets/");
                let cache = if hashed { "public, max-age=31536000, immutable" } else { "no-cache" };
                match File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file))) {
                    Ok((length, file)) => {
                        Answer { status: "200 OK", mime: mime(&path), cache, length, body: Box::new(file) }
                    }
                    Err(_) => Answer::plain("500 Internal Server Error"),
                }
            }
            None => Answer::plain("404 Not Found"),
        }
    }
}

/// The method and the path of the next request; `None` at the end of the connection.
fn request(reader: &mut impl BufRead) -> io::Result<Option<[String; 2]>> {
    let mut reader = reader.take(MAX_REQUEST_BYTES);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut words = first.split_ascii_whitespace().map(str::to_owned);
    let (Some(method), Some(url)) = (words.next(), words.next()) else { return Ok(None) };
    // The headers do not affect the response, so they are skipped.
    let mut line = String::new();
    while !line.trim_end().is_empty() || line.is_empty() {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
    }
    Ok(Some([method, url]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A site in a folder of its own for each test.
    fn site(test: &str) -> Site {
        let root = std::env::temp_dir().join(format!("googlenet-{test}-{}", std::process::id()));
        fs::create_dir_all(root.join("dist/assets")).unwrap();
        for file in ["secret", "dist/index.html", "dist/.env", "dist/assets/a b.js"] {
            fs::write(root.join(file), "x").unwrap();
        }
        let model = Model { id: "m".into(), name: "M".into(), path: root.join("secret"), bytes: 1, sha256: "a".into() };
        let mounts = vec![("more".into(), root.clone())];
        Site { root: root.join("dist"), mounts, models: Mutex::new(vec![model]), expected: false.into() }
    }

    #[test]
    fn only_files_inside_the_folders_are_found() {
        let site = site("inside");
        let found = |url: &str| matches!(site.find(url), Some(Found::File(_)));
        for url in ["/", "/index.html", "/?q=1", "/assets/a%20b.js", "/more/secret", "/models/m.safetensors"] {
            assert!(found(url), "{url}");
        }
        for url in [
            "/../secret",
            "/%2e%2e/secret",
            "/..%2fsecret",
            "/assets/../../secret",
            "/..\\secret",
            "/more/../../etc/passwd",
            "//secret",
            "/.env",
            "/assets",
            "/nothing",
            "/%zz",
            "/models/../secret.safetensors",
            "/more",
            "secret",
        ] {
            assert!(!found(url), "{url}");
        }
    }

    #[test]
    fn a_connection_carries_several_requests() {
        let server = Server::bind(0, site("requests")).unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", server.port().unwrap())).unwrap();
        thread::spawn(move || server.serve());
        let asked = "GET / HTTP/1.1\r\nHost: a\r\n\r\nHEAD /assets/a%20b.js HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\n\r\n";
        stream.write_all(asked.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let answers: Vec<&str> = text.split("HTTP/1.1 ").skip(1).collect();
        let starts: Vec<&str> = answers.iter().map(|a| &a[..3]).collect();
        assert_eq!(starts, ["200", "200", "404", "405"]);
        for answer in &answers {
            for (name, value) in HEADERS {
                assert!(answer.contains(&format!("{name}: {value}\r\n")), "{name}");
            }
        }
        assert!(answers[0].ends_with("Content-Length: 1\r\n\r\nx"));
        assert!(answers[1].contains("Content-Type: text/javascript") && answers[1].ends_with("\r\n\r\n"));
    }

    #[test]
    fn the_list_of_models_names_each() {
        let site = site("list");
        let lean = Model {
            id: "m-noheads".into(),
            name: "M".into(),
            path: site.root.join("lean"),
            bytes: 2,
            sha256: "b".into(),
        };
        let list = |site: &Site| match site.find("/models/index.json") {
            Some(Found::Text(json)) => json,
            other => panic!("there is no list: {other:?}"),
        };
        assert_eq!(
            list(&site),
            r#"{"models":[{"bytes":1,"id":"m","name":"M","sha256":"a","url":"models/m.safetensors"}]}"#
        );
        let model = site.models().pop().unwrap();
        site.offer(vec![model, lean]);
        let both = r#"{"models":[{"bytes":1,"id":"m","name":"M","noHeads":{"bytes":2,"sha256":"b","url":"models/m-noheads.safetensors"},"sha256":"a","url":"models/m.safetensors"}]}"#;
        assert_eq!(list(&site), both);
        site.expected.store(true, Ordering::Relaxed);
        assert!(list(&site).starts_with(r#"{"expected":true,"#), "the page asks again");
        site.expect_no_more();
        assert_eq!(list(&site), both);
    }
}
