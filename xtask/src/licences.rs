//! `cargo xtask licences`: checks the licences of everything that is built from or shipped.

use crate::{repo, shell};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use spdx::{Expression, ParseMode};
use std::collections::BTreeMap;
use std::fs;

/// Licences that require at most a notice. They are allowed for all packages.
const ALLOWED: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "BlueOak-1.0.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// Licences that are allowed for Node programs that only build and check the page: MPL-2.0, which applies to changed
/// files (lightningcss and axe-core), CC-BY-4.0, which requires a credit for a table of browser versions
/// (caniuse-lite), and Python's licence (argparse).
const TOOLS: [&str; 3] = ["MPL-2.0", "CC-BY-4.0", "Python-2.0"];

/// Checks all crates in `Cargo.lock`, for all platforms, and all packages in the page's lock files.
pub fn run() -> Result<()> {
    let mut counts = BTreeMap::new();
    let mut refused = Vec::new();
    let mut check = |package: &str, licence: Option<&str>, tool: bool| {
        let licence = licence.unwrap_or("none");
        *counts.entry(licence.to_owned()).or_insert(0) += 1;
        let extra = |one: &str| tool && TOOLS.contains(&one);
        if !allows(licence, &|one| ALLOWED.contains(&one) || extra(one)) {
            refused.push(format!("{package}: {licence}"));
        }
    };
    let json = shell::output(&mut shell::cargo(&["metadata", "--locked", "--format-version=1"]));
    let metadata: Value = serde_json::from_str(&json.context("cargo metadata failed")?)?;
    for package in metadata["packages"].as_array().context("cargo metadata lists no packages")? {
        let name = format!("{} {}", package["name"], package["version"]).replace('"', "");
        check(&name, package["license"].as_str(), false);
    }
    for name in ["package-lock.json", "docs/package-lock.json"] {
        let lock: Value = serde_json::from_slice(&fs::read(repo::www().join(name)).with_context(|| name.to_owned())?)?;
        for (path, package) in lock["packages"].as_object().context("the lock file lists no packages")? {
            // The first entry is the page itself.
            let Some((_, package_name)) = path.rsplit_once("node_modules/") else { continue };
            check(package_name, package["license"].as_str(), package["dev"] == true || name.starts_with("docs/"));
        }
    }
    for (licence, count) in &counts {
        println!("{count:>5}  {licence}");
    }
    if !refused.is_empty() {
        bail!("not on the list of licences:\n{}", refused.join("\n"));
    }
    println!("{} packages, all on the list", counts.values().sum::<usize>());
    Ok(())
}

/// Whether the allowed licences satisfy a licence expression, which is in SPDX syntax or in the older syntax with a
/// slash.
fn allows(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let met = |expression: Expression| expression.evaluate(|licence| allowed(&licence.to_string()));
    Expression::parse_mode(expression, ParseMode::LAX).is_ok_and(met)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_by_what_is_allowed() {
        let met = |expression| allows(expression, &|one| ALLOWED.contains(&one));
        for good in [
            "MIT",
            "Unlicense/MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0 OR (MIT AND Zlib)",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(met(good), "{good}");
        }
        for bad in
            ["", "none", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "MIT MIT", "MIT OR", "GPL-2.0 WITH LLVM-exception"]
        {
            assert!(!met(bad), "{bad}");
        }
    }
}
