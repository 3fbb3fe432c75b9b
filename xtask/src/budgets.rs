//! The budgets of `budgets.json`, which tests in `www/tests` and `src` read as well.

use anyhow::{Context, Result};
use serde_json::Value;

const FILE: &str = include_str!("../../budgets.json");

/// A budget by its section and name, for example `get("download", "cpu")`.
pub fn get(section: &str, name: &str) -> Result<u64> {
    let all: Value = serde_json::from_str(FILE).context("budgets.json is no JSON")?;
    all[section][name].as_u64().with_context(|| format!("budgets.json has no number \"{section}\", \"{name}\""))
}
