//! Files that are written at the end of a training, whole or not at all.

use crate::cli::common::{Result, in_file};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

/// A file to be written.
pub struct Target {
    path: PathBuf,
}

impl Target {
    /// Checks that a file can be written here, so that a wrong path fails before hours of work. A file that is there
    /// stays as it is until [`Target::write`].
    pub fn new(path: &Path) -> Result<Self> {
        let target = Target { path: path.to_owned() };
        if path.is_dir() || path.file_name().is_none() {
            return Err(format!("{}: this is a folder; name a file to write", path.display()).into());
        }
        let part = target.part();
        fs::File::create(&part).and_then(|_| fs::remove_file(&part)).map_err(|e| in_file(path, e))?;
        Ok(target)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file beside its place, and moves it there when it is complete.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let part = self.part();
        let written = fs::write(&part, bytes).and_then(|()| fs::rename(&part, &self.path));
        written.map_err(|e: io::Error| {
            let _ = fs::remove_file(&part);
            in_file(&self.path, e)
        })
    }

    /// A file in the same folder, so that it can be moved by renaming. Two programs do not write the same one.
    fn part(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!(".{name}.{}.part", process::id()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_only_by_a_complete_one() {
        let folder = std::env::temp_dir().join(format!("googlenet-target-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("out.bin");
        fs::write(&path, "before").unwrap();
        let target = Target::new(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"before");
        target.write(b"after").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"after");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no part is left");
        for wrong in [folder.clone(), folder.join("no/such/file"), PathBuf::new()] {
            assert!(Target::new(&wrong).is_err(), "{}", wrong.display());
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
