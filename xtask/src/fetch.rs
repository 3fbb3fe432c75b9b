//! Downloads files with progress, resumes broken downloads, and verifies checksums.

use anyhow::{Context, Result, bail};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::time::Duration;
use ureq::Agent;

/// The checksum of a file, in hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Checksum {
    Sha1(&'static str),
    Sha256(&'static str),
}

impl Checksum {
    /// Whether a file has this checksum.
    pub fn is_of(self, path: &Path) -> Result<bool> {
        match self {
            Checksum::Sha1(known) => Ok(digest::<Sha1>(path)? == known),
            Checksum::Sha256(known) => Ok(digest::<Sha256>(path)? == known),
        }
    }
}

/// The SHA-256 of a file.
pub fn sha256(path: &Path) -> Result<String> {
    digest::<Sha256>(path)
}

fn digest<D: Digest>(path: &Path) -> Result<String> {
    let unreadable = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(unreadable)?;
    let (mut hasher, mut buffer) = (D::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).with_context(unreadable)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Downloads a file, unless it exists with this checksum. An incomplete download is kept in a file that ends in
/// `.part`, and the next attempt resumes it. Fails if there is no connection within `timeout`.
pub fn fetch(url: &str, to: &Path, checksum: Option<Checksum>, timeout: Duration) -> Result<()> {
    if to.is_file() && checksum.is_none_or(|sum| sum.is_of(to).unwrap_or(false)) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    let part = to.with_added_extension("part");
    receive(url, &part, timeout)?;
    if let Some(checksum) = checksum
        && !checksum.is_of(&part)?
    {
        fs::remove_file(&part)?;
        bail!("what came is not what was expected: its checksum is another");
    }
    fs::rename(&part, to).with_context(|| format!("cannot write {}", to.display()))
}

/// Downloads the missing part of a file, and appends it to `part`.
fn receive(url: &str, part: &Path, timeout: Duration) -> Result<()> {
    let agent: Agent = Agent::config_builder()
        .timeout_resolve(Some(timeout))
        .timeout_connect(Some(timeout))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .build()
        .into();
    let have = part.metadata().map_or(0, |m| m.len());
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let response = match request.call() {
        // There is nothing after the bytes that are here: the file is complete, or a different one. The checksum
        // decides.
        Err(ureq::Error::StatusCode(416)) if have > 0 => return Ok(()),
        other => other?,
    };
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let continues = response.status() == 206
        && header("content-range").is_some_and(|range| range.starts_with(&format!("bytes {have}-")));
    let start = if continues { have } else { 0 };
    let total = header("content-length").and_then(|length| length.parse::<u64>().ok()).map(|length| start + length);

    println!("{url}");
    let mut file = OpenOptions::new().create(true).append(continues).write(true).truncate(!continues).open(part)?;
    let mut body = response.into_body().into_reader();
    let mut progress = Progress { done: start, total, reported: None };
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = body.read(&mut buffer).context("the connection broke")?;
        if count == 0 {
            break;
        }
        file.write_all(&buffer[..count])?;
        progress.advance(count as u64);
    }
    progress.end();
    if total.is_some_and(|total| progress.done < total) {
        bail!("the connection ended early; another attempt goes on from there");
    }
    Ok(())
}

/// A progress report: one line that is rewritten on a terminal, and otherwise one line for each tenth.
struct Progress {
    done: u64,
    total: Option<u64>,
    /// The tenth, or on a terminal the hundredth, of the last report.
    reported: Option<u64>,
}

impl Progress {
    fn advance(&mut self, by: u64) {
        self.done += by;
        let steps = if io::stderr().is_terminal() { 100 } else { 10 };
        let step = self.done * steps / self.total.unwrap_or(100_000_000).max(1);
        if self.reported != Some(step) {
            self.reported = Some(step);
            self.say();
        }
    }

    fn say(&self) {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let of = self.total.map_or(String::new(), |total| format!(" of {:.1}", megabytes(total)));
        let end = if io::stderr().is_terminal() { "\r" } else { "\n" };
        eprint!("  {:.1}{of} MB {end}", megabytes(self.done));
    }

    fn end(&self) {
        if io::stderr().is_terminal() {
            eprintln!();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::path::PathBuf;
    use std::thread;

    const TIMEOUT: Duration = Duration::from_secs(3);
    const BODY: &[u8] = b"GoogLeNet";
    const SUM: Checksum = Checksum::Sha256("0b57cb1f07ad5b1b3a1a2f3c5c1a4d1e00000000000000000000000000000000");

    /// A server that closes its first connection after four bytes. It then supports range requests, or does not.
    fn flaky(ranges: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        thread::spawn(move || {
            for (n, stream) in listener.incoming().flatten().enumerate() {
                let mut range = None;
                for line in BufReader::new(&stream).lines() {
                    let line = line.unwrap().to_ascii_lowercase();
                    if line.is_empty() {
                        break;
                    }
                    let from = line.strip_prefix("range: bytes=").and_then(|r| r.strip_suffix('-'));
                    range = range.or(from.map(|from| from.parse::<usize>().unwrap()));
                }
                let from = range.filter(|_| ranges).unwrap_or(0);
                let (status, extra) = match from {
                    0 => ("200 OK", String::new()),
                    _ => ("206 Partial Content", format!("Content-Range: bytes {from}-8/9\r\n")),
                };
                let rest = &BODY[from..];
                let sent = if n == 0 { &rest[..4] } else { rest };
                let length = rest.len();
                write!(&stream, "HTTP/1.1 {status}\r\n{extra}Content-Length: {length}\r\nConnection: close\r\n\r\n")
                    .unwrap();
                (&stream).write_all(sent).unwrap();
            }
        });
        url
    }

    fn place(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("googlenet-fetch-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder.join(name)
    }

    #[test]
    fn a_broken_download_is_resumed() {
        for ranges in [true, false] {
            let (url, to) = (flaky(ranges), place(&format!("ranges-{ranges}")));
            assert!(fetch(&url, &to, None, TIMEOUT).is_err());
            assert_eq!(fs::read(to.with_added_extension("part")).unwrap(), &BODY[..4]);
            fetch(&url, &to, None, TIMEOUT).unwrap();
            assert_eq!(fs::read(&to).unwrap(), BODY);
            assert!(!to.with_added_extension("part").exists());
        }
    }

    #[test]
    fn a_file_with_another_checksum_is_rejected() {
        let (url, to) = (flaky(true), place("other"));
        assert!(fetch(&url, &to, Some(SUM), TIMEOUT).is_err());
        let error = fetch(&url, &to, Some(SUM), TIMEOUT).unwrap_err();
        assert!(error.to_string().contains("checksum"), "{error}");
        assert!(!to.exists() && !to.with_added_extension("part").exists());
    }

    #[test]
    fn checksums_of_an_empty_file_are_right() {
        let empty = place("empty");
        fs::write(&empty, "").unwrap();
        for sum in [
            Checksum::Sha1("da39a3ee5e6b4b0d3255bfef95601890afd80709"),
            Checksum::Sha256("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ] {
            assert!(sum.is_of(&empty).unwrap());
        }
        assert!(!SUM.is_of(&empty).unwrap());
    }
}
