//! The folders of pictures of a training.

use super::args::{Args, Validate};
use crate::cli::common;
use googlenet::train::dataset::Folder;
use std::path::PathBuf;

/// The pictures to train on, and those of another folder to judge with.
pub struct Data {
    pub training: Folder,
    pub validation: Option<Folder>,
}

impl Data {
    /// Lists the pictures, and says which files are left out.
    pub fn read(args: &Args) -> common::Result<Self> {
        let training = Folder::read(&args.folder)?;
        let validation = match &args.validate {
            Some(Validate::Folder(path)) => Some(Folder::read(path)?),
            _ => None,
        };
        if let Some(validation) = &validation {
            validation.check_classes(&training)?;
        }
        for folder in [Some(&training), validation.as_ref()].into_iter().flatten() {
            if let Some(note) = ignored(&folder.ignored) {
                eprintln!("note: {note}");
            }
        }
        Ok(Data { training, validation })
    }

    /// The name of the folder of the training's pictures.
    pub fn name(&self) -> String {
        // The folder may be named `.` or `..`.
        let root = self.training.root.canonicalize().unwrap_or_else(|_| self.training.root.clone());
        root.file_name().map_or("pictures".into(), |name| name.to_string_lossy().into_owned())
    }
}

/// A sentence about files that are left out.
fn ignored(files: &[PathBuf]) -> Option<String> {
    let names = some(files.iter().map(|path| path.display().to_string()), 3)?;
    let why = "not a JPEG, PNG, GIF, WebP or BMP in the folder of a class";
    Some(match files.len() {
        1 => format!("one file is left out, because it is {why}: {names}"),
        count => format!("{count} files are left out, because each is {why}: {names}"),
    })
}

/// The first `most` of several names, and how many more there are. `None` where there are none.
pub fn some(names: impl ExactSizeIterator<Item = String>, most: usize) -> Option<String> {
    let count = names.len();
    let mut text = names.take(most).collect::<Vec<_>>().join(", ");
    if count > most {
        text += &format!(" and {} more", count - most);
    }
    (count > 0).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_left_out_are_named_but_not_all() {
        let files = |n: usize| (0..n).map(|i| PathBuf::from(format!("{i}.txt"))).collect::<Vec<_>>();
        assert_eq!(ignored(&[]), None);
        assert!(ignored(&files(1)).unwrap().starts_with("one file is left out"));
        let many = ignored(&files(5)).unwrap();
        assert!(many.starts_with("5 files are") && many.ends_with("0.txt, 1.txt, 2.txt and 2 more"), "{many}");
    }
}
