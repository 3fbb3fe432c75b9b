//! Downloads: with progress, taken up where they broke off, and checked against what is known of them.

use anyhow::{Context, Result, bail};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::time::Duration;
use ureq::Agent;

/// A file's checksum, in hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Checksum {
    Sha1(&'static str),
    Sha256(&'static str),
}

impl Checksum {
    /// Whether the file is the one that is meant.
    pub fn is_of(self, path: &Path) -> Result<bool> {
        match self {
            Checksum::Sha1(known) => Ok(digest::<Sha1>(path)? == known),
            Checksum::Sha256(known) => Ok(digest::<Sha256>(path)? == known),
        }
    }
}

/// A file's SHA-256.
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

/// Fetches a file, unless it is there. What has come of it so far lies beside it as `.part`, and
/// another attempt goes on from there. The connection must stand within `patience`.
pub fn fetch(url: &str, to: &Path, checksum: Option<Checksum>, patience: Duration) -> Result<()> {
    if to.is_file() && checksum.is_none_or(|sum| sum.is_of(to).unwrap_or(false)) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    let part = to.with_added_extension("part");
    receive(url, &part, patience)?;
    if let Some(checksum) = checksum
        && !checksum.is_of(&part)?
    {
        fs::remove_file(&part)?;
        bail!("what came is not what was expected: its checksum is another");
    }
    fs::rename(&part, to).with_context(|| format!("cannot write {}", to.display()))
}

/// Appends to `part` what it lacks.
fn receive(url: &str, part: &Path, patience: Duration) -> Result<()> {
    let agent: Agent = Agent::config_builder()
        .timeout_resolve(Some(patience))
        .timeout_connect(Some(patience))
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
        // There is nothing beyond what is here: it is whole already, or another file. The checksum tells.
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
    let mut progress = Progress { done: start, total, said: None };
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

/// One line that a terminal keeps rewriting; elsewhere a line a tenth.
struct Progress {
    done: u64,
    total: Option<u64>,
    /// The tenth, or on a terminal the hundredth, that was said last.
    said: Option<u64>,
}

impl Progress {
    fn advance(&mut self, by: u64) {
        self.done += by;
        let steps = if io::stderr().is_terminal() { 100 } else { 10 };
        let step = self.done * steps / self.total.unwrap_or(100_000_000).max(1);
        if self.said != Some(step) {
            self.said = Some(step);
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

    const PATIENCE: Duration = Duration::from_secs(3);
    const BODY: &[u8] = b"GoogLeNet";
    const SUM: Checksum = Checksum::Sha256("0b57cb1f07ad5b1b3a1a2f3c5c1a4d1e00000000000000000000000000000000");

    /// A server that breaks off its first answer after four bytes, and then knows ranges, or does not.
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
    fn a_broken_download_goes_on() {
        for ranges in [true, false] {
            let (url, to) = (flaky(ranges), place(&format!("ranges-{ranges}")));
            assert!(fetch(&url, &to, None, PATIENCE).is_err());
            assert_eq!(fs::read(to.with_added_extension("part")).unwrap(), &BODY[..4]);
            fetch(&url, &to, None, PATIENCE).unwrap();
            assert_eq!(fs::read(&to).unwrap(), BODY);
            assert!(!to.with_added_extension("part").exists());
        }
    }

    #[test]
    fn something_else_is_not_taken() {
        let (url, to) = (flaky(true), place("other"));
        assert!(fetch(&url, &to, Some(SUM), PATIENCE).is_err());
        let error = fetch(&url, &to, Some(SUM), PATIENCE).unwrap_err();
        assert!(error.to_string().contains("checksum"), "{error}");
        assert!(!to.exists() && !to.with_added_extension("part").exists());
    }

    #[test]
    fn checksums_are_the_standards() {
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
