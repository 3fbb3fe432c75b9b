//! The browsers of the tests, and the software Vulkan driver that they use on machines without a GPU.

use crate::jobs::Job;
use crate::shell;
use anyhow::{Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The programs that the tests start.
pub struct Browsers {
    pub chromium: PathBuf,
    pub chromedriver: PathBuf,
    pub firefox: PathBuf,
    /// WebKit's driver. Only some Linux distributions have it.
    pub webkit: Option<PathBuf>,
}

/// A program, the names under which it is found, and its Debian package.
struct Need {
    what: &'static str,
    /// An environment variable with the program's path, which takes precedence.
    variable: &'static str,
    names: &'static [&'static str],
    package: &'static str,
}

const CHROMIUM: Need = Need {
    what: "Chromium or Chrome",
    variable: "CHROMIUM",
    names: &[
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    ],
    package: "chromium",
};
const CHROMEDRIVER: Need = Need {
    what: "chromedriver (of the browser's version)",
    variable: "CHROMEDRIVER",
    names: &["chromedriver"],
    package: "chromium-driver",
};
const FIREFOX: Need = Need {
    what: "Firefox",
    variable: "FIREFOX",
    names: &["firefox-esr", "firefox", "/Applications/Firefox.app/Contents/MacOS/firefox"],
    package: "firefox-esr",
};

const WEBKIT: Need =
    Need { what: "WebKitGTK's driver", variable: "WEBKIT", names: &["WebKitWebDriver"], package: "webkit2gtk-driver" };

impl Need {
    fn find(&self) -> Option<PathBuf> {
        if let Some(path) = env::var_os(self.variable) {
            return Some(PathBuf::from(path)).filter(|path| path.is_file());
        }
        let known = |name: &&str| if name.starts_with('/') { Some(PathBuf::from(name)) } else { shell::find(name) };
        self.names.iter().filter_map(known).find(|path| path.is_file())
    }
}

/// Finds the browsers. Installs missing ones with apt if this process is root; otherwise fails with the names of the
/// packages to install. Concurrent callers wait for the first one.
pub fn ensure() -> Result<Browsers> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let needs = [&CHROMIUM, &CHROMEDRIVER, &FIREFOX];
    let mut packages: Vec<&str> = needs.iter().filter(|n| n.find().is_none()).map(|n| n.package).collect();
    // A Vulkan driver that computes on the CPU, for native GPU tests and Firefox on machines without a GPU.
    if cfg!(target_os = "linux") && !has_vulkan() {
        packages.extend(["mesa-vulkan-drivers", "libvulkan1"]);
    }
    if cfg!(target_os = "linux") && WEBKIT.find().is_none() {
        packages.extend([WEBKIT.package, "xvfb", "xauth"]);
    }
    if !packages.is_empty() && can_apt() {
        Job::run(Command::new("apt-get").args(["update", "-qq"]))?;
        Job::run(
            Command::new("apt-get")
                .args(["install", "-y", "-qq", "--no-install-recommends"])
                .args(&packages)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )?;
    }
    match needs.map(Need::find) {
        [Some(chromium), Some(chromedriver), Some(firefox)] => {
            Ok(Browsers { chromium, chromedriver, firefox, webkit: WEBKIT.find() })
        }
        found => {
            let missing = needs.iter().zip(found).filter(|(_, found)| found.is_none());
            let lines = missing.map(|(n, _)| {
                format!("\n  {}: on Debian `apt install {}`, or set {} to its path", n.what, n.package, n.variable)
            });
            bail!("the browser tests need these, which are not installed:{}", lines.collect::<String>())
        }
    }
}

fn has_vulkan() -> bool {
    let folders = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    let driver = folders.iter().any(|dir| Path::new(dir).read_dir().is_ok_and(|mut entries| entries.next().is_some()));
    let loader = shell::output(Command::new("ldconfig").arg("-p")).is_none_or(|all| all.contains("libvulkan.so.1"));
    driver && loader
}

fn can_apt() -> bool {
    let root = shell::output(Command::new("id").arg("-u")).as_deref() == Some("0");
    root && shell::find("apt-get").is_some()
}
