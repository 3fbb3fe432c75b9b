//! Replays the fuzzers' corpus: the seeds from which they start, and the inputs that once failed.
#![cfg(not(target_arch = "wasm32"))]

#[path = "common/files.rs"]
mod files;
#[path = "../fuzz/src/targets.rs"]
mod targets;

use googlenet::graph::googlenet::{TABLE, Variant, module_network};
use googlenet::graph::tensor::Shape;
use googlenet::train::checkpoint::{State, write_to};
use googlenet::train::history::Epoch;
use image::{DynamicImage, ImageFormat, Rgba, RgbaImage};
use std::fs;
use std::io::Cursor;
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn folder(target: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus")).join(target)
}

#[test]
fn no_file_of_the_corpus_is_a_finding() {
    for (name, target) in targets::ALL {
        let mut files: Vec<PathBuf> = fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no corpus");
        for path in &files {
            println!("{}", path.display());
            let start = Instant::now();
            target(&fs::read(path).unwrap());
            assert!(start.elapsed() < Duration::from_secs(10), "{}: {:?}", path.display(), start.elapsed());
        }
    }
}

/// The seeds are up to date, and each has the format of its target.
#[test]
fn seeds_are_of_their_format() {
    for (name, seeds) in seeds() {
        assert!(seeds.iter().all(|(_, seed)| seed.len() < 8 << 10), "{name}");
        for (seed, bytes) in seeds {
            let path = folder(name).join(seed);
            assert_eq!(fs::read(&path).unwrap(), bytes, "{}: run the test `write_seeds`", path.display());
        }
    }
}

#[test]
#[ignore = "writes into fuzz/corpus"]
fn write_seeds() {
    for (name, seeds) in seeds() {
        fs::create_dir_all(folder(name)).unwrap();
        seeds.iter().for_each(|(seed, bytes)| fs::write(folder(name).join(seed), bytes).unwrap());
    }
}

type Seeds = Vec<(&'static str, Vec<u8>)>;

fn seeds() -> Vec<(&'static str, Seeds)> {
    let layer = |name, dims: &[usize], values| files::caffe_weights(name, dims, values);
    let caffe = vec![
        ("layers", files::caffemodel([layer("conv1/7x7_s2", &[64, 3, 7, 7], false), layer("fc", &[3, 4], true)])),
        ("norms", files::caffemodel([files::caffe_layer("pool1/norm1", "LRN", &[])])),
        ("classifier", files::caffemodel([layer("loss3/classifier", &[1, 1024], true)])),
    ];
    let module = module_network(Variant::Caffe, &TABLE[0], Shape::new(1, 28, 28, 192), false).unwrap();
    let onnx = vec![("module", files::onnx_of(&module, false))];
    let (keras, tensorflow) = (hdf5(false), hdf5(true));
    let archive = vec![
        ("keras", files::zip("model.weights.h5", &keras)),
        ("other", files::zip("notes.txt", b"no weights")),
        ("pytorch", files::zip("archive/data.pkl", b"\x80\x02.")),
    ];
    let picture = |format, side| {
        let picture = RgbaImage::from_fn(side, side, |x, y| Rgba([x as u8 * 9, y as u8 * 9, 128, 255]));
        let picture = DynamicImage::from(picture);
        let picture = if format == ImageFormat::Jpeg { picture.into_rgb8().into() } else { picture };
        let mut file = Vec::new();
        picture.write_to(&mut Cursor::new(&mut file), format).unwrap();
        file
    };
    let pictures = vec![
        ("gradient.png", picture(ImageFormat::Png, 9)),
        ("gradient.jpeg", picture(ImageFormat::Jpeg, 16)),
        ("gradient.gif", picture(ImageFormat::Gif, 5)),
        ("gradient.webp", picture(ImageFormat::WebP, 7)),
        ("gradient.bmp", picture(ImageFormat::Bmp, 3)),
    ];
    let plan = vec![
        // The four variants, with ten classes at 224x224.
        ("googlenet", vec![0, 0, 10, 1, 207, 96, 1, 0]),
        ("torchvision", vec![0, 3, 10, 1, 207, 96, 4, 1]),
        // An input of 9x9x3, a convolution, a pool, and a concatenation of both, in the encoding of `any`.
        (
            "any",
            [
                &[1][..],
                &[0, 3, 3, 1, 1, 0, 0, 1, 9, 9, 3, 0],
                &[1, 3, 3, 1, 1, 0, 1, 4, 1, 0],
                &[2, 3, 3, 1, 1, 0, 2, 1, 0],
                &[3, 1, 1, 1, 1, 0, 6, 2, 1, 2],
            ]
            .concat(),
        ),
    ];
    vec![
        ("safetensors", vec![("types", files::small())]),
        ("checkpoint", vec![("training", checkpoint())]),
        ("caffe", caffe),
        ("onnx", onnx),
        ("hdf5", vec![("keras", keras), ("tensorflow", tensorflow)]),
        ("archive", archive),
        ("picture", pictures),
        ("plan", plan),
    ]
}

/// A checkpoint after one epoch, with a tensor and its momentum.
fn checkpoint() -> Vec<u8> {
    let pairs = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into();
    let epoch = Epoch { loss: 3.5, heads: [("loss3".to_owned(), 2.5)].into(), accuracy: None, rate: 0.01 };
    let state =
        State { step: 9, epoch: 1, options: pairs("batch", "32"), history: vec![epoch], notes: pairs("best", "0.5") };
    let mut file = Vec::new();
    write_to(&mut file, &state, &[("w", &[2, 1], &[1.0, -0.5]), ("w/momentum", &[2, 1], &[0.0, f32::NAN])]).unwrap();
    file
}

/// Two layers, as written by Keras 3 or by TensorFlow 2.
fn hdf5(tensorflow: bool) -> Vec<u8> {
    let mut file = files::Hdf5::default();
    let variables = if tensorflow { ["kernel:0", "bias:0"] } else { ["0", "1"] };
    let layers = [("conv", vec![7, 7, 3, 64]), ("dense", vec![1024, 3])].map(|(name, dims)| {
        let bias = [*dims.last().unwrap()];
        let members = [(variables[0].to_owned(), file.dataset(&dims)), (variables[1].to_owned(), file.dataset(&bias))];
        let lists = [("weight_names", variables.map(str::to_owned).to_vec())];
        let inside = file.group(&members, if tensorflow { &lists } else { &[] });
        (name.to_owned(), if tensorflow { inside } else { file.group(&[("vars".to_owned(), inside)], &[]) })
    });
    let lists = [("layer_names", layers.each_ref().map(|(name, _)| name.clone()).to_vec())];
    let root = file.group(&layers, if tensorflow { &lists } else { &[] });
    file.finish(root)
}
