//! A data set in a folder: one sub-folder a class, and pictures in it.

use crate::error::{Error, Result};
use crate::model::preprocess::Image;
use image::ImageFormat;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// The formats that are read, for messages.
const FORMATS: &str = "JPEG, PNG, GIF, WebP or BMP";
/// Folders that are nested deeper are probably links in a circle.
const MAX_DEPTH: usize = 16;

/// The files of a data set. Nothing has been decoded yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Folder {
    pub root: PathBuf,
    /// The names of the sub-folders, sorted: the order of the classes.
    pub classes: Vec<String>,
    /// All pictures, sorted by class and then by path.
    pub files: Vec<File>,
    /// Files that are no pictures, and pictures that are in no class. Hidden files are not among them.
    pub ignored: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub path: PathBuf,
    pub class: usize,
}

/// A decoded picture of a data set, as [`decode`] prepared it.
pub struct Decoded<T> {
    pub prepared: T,
    /// A hash of the size and the pixels. It is the same for copies of a picture, also in another lossless format.
    pub content: u64,
}

impl Folder {
    /// Lists the pictures of a folder. A class's pictures may be in folders within its folder. Hidden files and folders,
    /// whose names begin with a dot, are left out, and so are files whose name does not end like that of a picture that can
    /// be decoded.
    ///
    /// Fails with [`Error::Io`] where a folder cannot be read, and with [`Error::Argument`] where there are fewer than two
    /// classes, or where a class has no pictures.
    pub fn read(root: &Path) -> Result<Self> {
        let here = |reason: String| Err(Error::Argument(format!("{}: {reason}", root.display())));
        if !root.is_dir() {
            let what = if root.exists() { "this is no folder" } else { "there is no such folder" };
            return here(format!("{what}; training needs a folder with one sub-folder of pictures for each class"));
        }
        let mut folder = Folder { root: root.to_owned(), classes: Vec::new(), files: Vec::new(), ignored: Vec::new() };
        let mut loose = 0;
        for (name, path) in entries(root)? {
            if path.is_dir() {
                let mut pictures = Vec::new();
                collect(&path, MAX_DEPTH, &mut pictures, &mut folder.ignored)?;
                let class = folder.classes.len();
                folder.files.extend(pictures.into_iter().map(|path| File { path, class }));
                folder.classes.push(name);
            } else {
                loose += usize::from(is_picture(&path));
                folder.ignored.push(path);
            }
        }
        let example = format!("e.g. {} and {}", root.join("cat").display(), root.join("dog").display());
        if folder.classes.is_empty() {
            let loose = if loose > 0 { format!("there are {loose} pictures, but ") } else { String::new() };
            return here(format!("{loose}there are no sub-folders; each class needs one of its own, {example}"));
        }
        if folder.files.is_empty() {
            return here(format!("there are no pictures ({FORMATS}) in its {} sub-folders", folder.classes.len()));
        }
        if let [only] = &folder.classes[..] {
            return here(format!(
                "there is only one class, \"{only}\"; at least two sub-folders are needed, {example}"
            ));
        }
        let empty: Vec<String> = folder.without(|_| true).into_iter().map(|name| format!("\"{name}\"")).collect();
        match &empty[..] {
            [] => Ok(folder),
            [name] => here(format!("the class {name} has no pictures ({FORMATS}); add some, or remove the sub-folder")),
            names => here(format!(
                "the classes {} have no pictures ({FORMATS}); add some, or remove the sub-folders",
                names.join(", ")
            )),
        }
    }

    /// The names of the classes that have no file for whose number `wanted` returns true.
    pub fn without(&self, wanted: impl Fn(usize) -> bool) -> Vec<&str> {
        let mut has = vec![false; self.classes.len()];
        for (_, file) in self.files.iter().enumerate().filter(|(number, _)| wanted(*number)) {
            has[file.class] = true;
        }
        self.classes.iter().zip(has).filter(|(_, has)| !has).map(|(name, _)| name.as_str()).collect()
    }

    /// Checks that this folder, with which a training on `training` is judged, has the same classes. Fails with
    /// [`Error::Argument`], which names those that differ.
    pub fn check_classes(&self, training: &Folder) -> Result<()> {
        let lacks = |a: &Folder, b: &Folder| -> Vec<String> {
            a.classes.iter().filter(|name| !b.classes.contains(name)).map(|name| format!("\"{name}\"")).collect()
        };
        let (missing, extra) = (lacks(training, self), lacks(self, training));
        let difference = match (&missing[..], &extra[..]) {
            ([], []) => return Ok(()),
            (missing, []) => format!("lacks {}", missing.join(", ")),
            ([], extra) => format!("also has {}", extra.join(", ")),
            (missing, extra) => format!("lacks {} and also has {}", missing.join(", "), extra.join(", ")),
        };
        let (own, other) = (self.root.display(), training.root.display());
        Err(Error::Argument(format!("{own}: its classes must be those of {other}, but it {difference}")))
    }
}

/// The entries of a folder that are not hidden, sorted by name.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let fail = |e: std::io::Error| Error::Io(format!("{}: {e}", folder.display()));
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            entries.push((name, entry.path()));
        }
    }
    entries.sort();
    Ok(entries)
}

/// Adds the files of a folder, and of the folders in it, to `pictures` or to `ignored`.
fn collect(folder: &Path, depth: usize, pictures: &mut Vec<PathBuf>, ignored: &mut Vec<PathBuf>) -> Result<()> {
    if depth == 0 {
        return Err(Error::Argument(format!(
            "{}: more than {MAX_DEPTH} folders are nested; is there a link to a folder above it?",
            folder.display()
        )));
    }
    for (_, path) in entries(folder)? {
        if path.is_dir() {
            collect(&path, depth - 1, pictures, ignored)?;
        } else if is_picture(&path) {
            pictures.push(path);
        } else {
            ignored.push(path);
        }
    }
    Ok(())
}

/// Whether a file's name ends like that of a picture that can be decoded.
fn is_picture(path: &Path) -> bool {
    let format = path.extension().and_then(ImageFormat::from_extension);
    format.is_some_and(|format| format.reading_enabled())
}

/// Reads and decodes files on this many threads, and calls `prepare` there with each picture. `each` is called on this
/// thread for one file after the other, in their order, with the error of a file that cannot be read. Few pictures are in
/// memory at a time. Ends with the first error that `each` returns.
pub fn decode<T: Send>(
    files: &[File],
    threads: NonZeroUsize,
    prepare: impl Fn(Image) -> T + Sync,
    mut each: impl FnMut(usize, Result<Decoded<T>>) -> Result<()>,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let one = |file: &File| -> Result<Decoded<T>> {
        let bytes = fs::read(&file.path).map_err(|e| Error::Io(e.to_string()))?;
        let image = Image::decode(&bytes)?;
        let content = content(&image);
        Ok(Decoded { prepared: prepare(image), content })
    };
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(threads.get());
        for _ in 0..threads.get() {
            let (sender, next, one) = (sender.clone(), &next, &one);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(file) = files.get(number) else { break };
                    // The receiver is gone after an error.
                    if sender.send((number, one(file))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        // Pictures that were decoded before one that comes first.
        let mut early = BTreeMap::new();
        let mut expected = 0;
        for (number, decoded) in receiver {
            early.insert(number, decoded);
            while let Some(decoded) = early.remove(&expected) {
                each(expected, decoded)?;
                expected += 1;
            }
        }
        Ok(())
    })
}

fn content(image: &Image) -> u64 {
    let mut hasher = DefaultHasher::new();
    (image.width(), image.height(), image.rgba()).hash(&mut hasher);
    hasher.finish()
}

/// For each picture, the number of the first one with the same content.
pub fn copies(contents: &[u64]) -> Vec<usize> {
    let mut first = HashMap::new();
    contents.iter().enumerate().map(|(number, content)| *first.entry(content).or_insert(number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::RgbImage;

    /// A folder for one test, removed at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("googlenet-dataset-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }

        fn write(&self, path: &str, bytes: &[u8]) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }

        fn picture(&self, path: &str, colour: u8) {
            self.write(path, b"");
            RgbImage::from_pixel(3, 2, image::Rgb([colour, 0, 9])).save(self.0.join(path)).unwrap();
        }

        fn fails(&self, says: &[&str]) {
            let error = Folder::read(&self.0).unwrap_err().to_string();
            assert!(error.starts_with(&self.0.display().to_string()), "{error}");
            says.iter().for_each(|part| assert!(error.contains(part), "{error}"));
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn threads(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).unwrap()
    }

    #[test]
    fn a_sub_folder_is_a_class_and_its_folders_belong_to_it() {
        let scratch = Scratch::new("classes");
        for name in ["b/2.png", "b/1.JPG", "a/deep/er/x.webp", "a/y.jpeg", "a/.hidden.png", ".git/z.png"] {
            scratch.write(name, b"");
        }
        for name in ["a/notes.txt", "a/x.heic", "loose.png"] {
            scratch.write(name, b"");
        }
        let folder = Folder::read(&scratch.0).unwrap();
        assert_eq!(folder.classes, ["a", "b"]);
        let relative = |path: &PathBuf| path.strip_prefix(&scratch.0).unwrap().to_str().unwrap().replace('\\', "/");
        let files: Vec<_> = folder.files.iter().map(|file| (relative(&file.path), file.class)).collect();
        let expected = [("a/deep/er/x.webp", 0), ("a/y.jpeg", 0), ("b/1.JPG", 1), ("b/2.png", 1)];
        assert_eq!(files, expected.map(|(path, class)| (path.to_owned(), class)));
        let ignored: Vec<String> = folder.ignored.iter().map(relative).collect();
        assert_eq!(ignored, ["a/notes.txt", "a/x.heic", "loose.png"]);
        assert_eq!(folder.without(|number| number != 0), [""; 0]);
        assert_eq!(folder.without(|number| number < 2), ["b"]);
    }

    #[test]
    fn what_a_folder_lacks_is_said() {
        let scratch = Scratch::new("errors");
        let missing = Folder::read(&scratch.0.join("missing")).unwrap_err().to_string();
        assert!(missing.contains("missing: there is no such folder"), "{missing}");
        scratch.write("a.png", b"");
        let file = Folder::read(&scratch.0.join("a.png")).unwrap_err().to_string();
        assert!(file.contains("a.png: this is no folder"), "{file}");
        scratch.fails(&["there are 1 pictures, but there are no sub-folders", "dog"]);
        scratch.write("cats/readme.txt", b"");
        scratch.write("dogs/readme.txt", b"");
        scratch.fails(&["there are no pictures (JPEG, PNG, GIF, WebP or BMP) in its 2 sub-folders"]);
        scratch.write("cats/a.png", b"");
        scratch.fails(&["the class \"dogs\" has no pictures"]);
        fs::create_dir(scratch.0.join("eels")).unwrap();
        scratch.fails(&["the classes \"dogs\", \"eels\" have no pictures"]);
        fs::remove_dir_all(scratch.0.join("dogs")).unwrap();
        fs::remove_dir_all(scratch.0.join("eels")).unwrap();
        scratch.fails(&["there is only one class, \"cats\""]);
    }

    #[test]
    fn a_folder_to_judge_with_has_the_same_classes() {
        let folder = |root: &str, classes: &[&str]| Folder {
            root: root.into(),
            classes: classes.iter().map(|&name| name.to_owned()).collect(),
            files: Vec::new(),
            ignored: Vec::new(),
        };
        let training = folder("train", &["a", "b", "c"]);
        assert_eq!(training.check_classes(&training), Ok(()));
        let says = |classes: &[&str]| folder("test", classes).check_classes(&training).unwrap_err().to_string();
        let start = "test: its classes must be those of train, but it";
        assert_eq!(says(&["a", "c"]), format!("{start} lacks \"b\""));
        assert_eq!(says(&["a", "b", "c", "d"]), format!("{start} also has \"d\""));
        assert_eq!(says(&["a", "B", "c"]), format!("{start} lacks \"b\" and also has \"B\""));
    }

    #[test]
    fn pictures_come_in_order_and_copies_are_recognised() {
        let scratch = Scratch::new("decode");
        for (i, name) in ["a/0.png", "a/1.png", "b/2.png", "b/3.bmp"].iter().enumerate() {
            scratch.picture(name, 10 * i as u8);
        }
        scratch.picture("b/4.bmp", 10);
        scratch.write("b/5.png", b"no picture");
        scratch.write("b/6.png", b"");
        let folder = Folder::read(&scratch.0).unwrap();
        for n in [1, 3] {
            let mut contents = Vec::new();
            let mut reds = Vec::new();
            let mut errors = Vec::new();
            decode(
                &folder.files,
                threads(n),
                |image| image.rgba()[0],
                |number, decoded| {
                    match decoded {
                        Ok(Decoded { prepared, content }) => {
                            reds.push(prepared);
                            contents.push(content);
                        }
                        Err(e) => errors.push((number, e.to_string())),
                    }
                    Ok(())
                },
            )
            .unwrap();
            assert_eq!(reds, [0, 10, 20, 30, 10]);
            assert_eq!(copies(&contents), [0, 1, 2, 3, 1]);
            let [(5, text), (6, empty)] = &errors[..] else { panic!("{errors:?}") };
            assert!(text.contains("it is no JPEG") && empty.contains("the file is empty"));
            // An error ends it.
            let mut seen = 0;
            let end = decode(
                &folder.files,
                threads(n),
                |_| (),
                |number, _| {
                    seen += 1;
                    if number == 2 { Err(Error::Argument("enough".into())) } else { Ok(()) }
                },
            );
            assert_eq!((end.unwrap_err().to_string().as_str(), seen), ("enough", 3));
        }
    }
}
