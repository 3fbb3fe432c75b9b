//! Damaged models. Each either still loads, or fails with an error that says what is wrong and where. None of them
//! causes a panic, a long wait, or the use of more memory than the file's size and a constant.
#![cfg(not(target_arch = "wasm32"))]

#[path = "common/files.rs"]
mod files;

use files::{Message, caffe_weights, caffemodel, layers, network, small, together};
use googlenet::Error;
use googlenet::graph::googlenet::Variant;
use googlenet::model::import::{Options, import, recognises};
use googlenet::model::weights::Weights;
use googlenet::model::{Model, key};
use serde_json::{Map, Value, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Counts the memory of each thread separately, so that tests may run in parallel.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that is ending has no counters any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: all calls are forwarded to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: guaranteed by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The longest time that loading a file may take, with a margin for busy machines.
const MAX_TIME: Duration = Duration::from_secs(10);

/// The results of loading many variants of a kind of file.
struct Trial {
    what: &'static str,
    /// The largest number of bytes that loading may allocate in addition to the file.
    memory: usize,
    cases: usize,
    loaded: usize,
    /// The largest number of bytes that loading allocated, and the longest time it took.
    held: usize,
    took: Duration,
}

impl Trial {
    fn new(what: &'static str, memory: usize) -> Self {
        Trial { what, memory, cases: 0, loaded: 0, held: 0, took: Duration::ZERO }
    }

    /// Loads one file. `case` describes how it differs from the original.
    fn load(&mut self, case: &str, bytes: Vec<u8>, load: impl FnOnce(Vec<u8>) -> Result<(), Error>) -> Option<Error> {
        let before = HELD.get();
        PEAK.set(before);
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| load(bytes)));
        let (took, held) = (start.elapsed(), (PEAK.get() - before).max(0) as usize);
        let what = self.what;
        let result = result.unwrap_or_else(|_| panic!("{what}, {case}: it panicked"));
        assert!(took < MAX_TIME, "{what}, {case}: it took {took:?}");
        assert!(held <= self.memory, "{what}, {case}: it held {held} bytes");
        (self.cases, self.held, self.took) = (self.cases + 1, self.held.max(held), self.took.max(took));
        match result {
            Ok(()) => {
                self.loaded += 1;
                None
            }
            Err(error) => {
                assert!(names_the_place(&error), "{what}, {case}: \"{error}\" does not say where");
                Some(error)
            }
        }
    }

    /// Like [`Trial::load`], for a file that must fail with an error that contains these texts.
    fn fails(&mut self, case: &str, bytes: Vec<u8>, load: fn(Vec<u8>) -> Result<(), Error>, says: &[&str]) {
        let error = self.load(case, bytes, load).unwrap_or_else(|| panic!("{}, {case}: it loaded", self.what));
        for part in says {
            assert!(error.to_string().contains(part), "{}, {case}: {error}", self.what);
        }
    }

    fn report(&self) {
        let Trial { what, cases, loaded, held, took, .. } = self;
        println!("{what}: {cases} cases, {loaded} load, at most {held} bytes beside the file and {took:.1?}");
    }
}

/// Whether an error names a place in the file: a name, a number, or a part of the format.
fn names_the_place(error: &Error) -> bool {
    let text = error.to_string();
    let parts = [
        "header",
        "field",
        "HDF5",
        "zip archive",
        "its format is not supported",
        "layer",
        "graph",
        "variable",
        "byte",
        "model.weights.h5",
    ];
    error.detail().is_some() || text.contains('"') || parts.iter().any(|part| text.contains(part))
}

fn weights(bytes: Vec<u8>) -> Result<(), Error> {
    let weights = Weights::parse(bytes)?;
    for name in weights.names() {
        let (dims, values) = weights.get(name)?;
        assert_eq!(dims.iter().product::<usize>(), values.len());
        weights.check(name, dims)?;
    }
    Ok(())
}

fn model(bytes: Vec<u8>) -> Result<(), Error> {
    Model::from_bytes(bytes).map(drop)
}

fn foreign(bytes: Vec<u8>) -> Result<(), Error> {
    import(&bytes, &Options { mean: Some([0.0; 3]), ..Options::default() }).map(drop)
}

/// Splits a safetensors file into its header and its values.
fn split_header(file: &[u8]) -> (Map<String, Value>, &[u8]) {
    let len = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&file[8..8 + len]).unwrap(), &file[8 + len..])
}

/// The file with a modified header.
fn with_header(file: &[u8], change: impl FnOnce(&mut Map<String, Value>)) -> Vec<u8> {
    let (mut header, values) = split_header(file);
    change(&mut header);
    together(&Value::from(header).to_string(), values)
}

/// Tries the file cut at every `step`-th length, and with every `step`-th byte replaced: by bytes of numbers, by bytes
/// of JSON, and by others.
fn byte_by_byte(trial: &mut Trial, good: &[u8], load: fn(Vec<u8>) -> Result<(), Error>, step: usize) {
    for cut in (0..good.len()).step_by(step) {
        trial.load(&format!("cut at {cut}"), good[..cut].to_vec(), load);
    }
    for at in (0..good.len()).step_by(step) {
        for byte in [0, 0xff, b'"', b'9', b'-', b'{', b']', good[at] ^ 1, good[at] ^ 0x80] {
            let mut bytes = good.to_vec();
            bytes[at] = byte;
            trial.load(&format!("byte {at} as {byte:#x}"), bytes, load);
        }
    }
}

#[test]
fn every_byte_of_a_safetensors_file() {
    let good = small();
    weights(good.clone()).unwrap();
    let mut trial = Trial::new("safetensors, byte by byte", 64 << 10);
    byte_by_byte(&mut trial, &good, weights, 1);
    for cut in 0..good.len() {
        assert!(trial.load("cut", good[..cut].to_vec(), weights).is_some(), "cut at {cut} it loads");
    }
    for (len, says) in [
        (0, "its header: "),
        (1, "its header: "),
        (good.len() as u64 - 8, "its header: "),
        (good.len() as u64 - 7, "bytes, but"),
        (1 << 22, "its header should have 4194304 bytes, but"),
        (1 << 40, "say that its header has 1099511627776 bytes"),
        (u64::MAX, "say that its header has 18446744073709551615 bytes"),
    ] {
        let mut bytes = good.clone();
        bytes[..8].copy_from_slice(&len.to_le_bytes());
        trial.fails(&format!("a header of {len}"), bytes, weights, &[says]);
    }
    trial.report();
    assert!(trial.cases > 2000);
}

#[test]
fn every_field_of_a_safetensors_header() {
    let good = small();
    let mut trial = Trial::new("safetensors, field by field", 64 << 10);
    let (header, values) = split_header(&good);
    let huge = u64::MAX;
    for name in ["a", "b", "c", "c_scale"] {
        let quoted = format!("\"{name}\"");
        let [from, to] = [0, 1].map(|i| header[name]["data_offsets"][i].as_u64().unwrap());
        let fields = [
            // The replacement, and whether the error must be about this tensor. A wrong offset may be reported for
            // another tensor.
            ("data_offsets", json!([to, from]), false),
            ("data_offsets", json!([from, to + 1]), false),
            ("data_offsets", json!([from, to - 1]), false),
            ("data_offsets", json!([from + 1, to]), true),
            ("data_offsets", json!([from, huge]), true),
            ("data_offsets", json!([huge, huge]), false),
            ("data_offsets", json!([0, 0]), false),
            ("data_offsets", json!([0, 40]), false),
            ("shape", json!([]), true),
            ("shape", json!([0]), true),
            ("shape", json!([3, 3]), true),
            ("shape", json!([huge]), true),
            ("shape", json!([huge, huge]), true),
            ("shape", json!([1u64 << 32, 1u64 << 32]), true),
            ("shape", json!([1u64 << 63, 2]), true),
            ("shape", json!([0, huge]), true),
            ("dtype", json!("BF16"), true),
            ("dtype", json!("F64"), true),
            ("dtype", json!("I64"), true),
            ("dtype", json!("F4"), true),
            ("dtype", json!(""), true),
        ];
        for (field, value, named) in fields {
            let case = format!("{field} of {name}: {value}");
            let bytes = with_header(&good, |header| header[name][field] = value);
            trial.fails(&case, bytes, weights, &[if named { &quoted } else { "\"" }]);
        }
        for (field, value, says) in [
            ("data_offsets", json!([0]), "at line 1 column"),
            ("data_offsets", json!([0, 8, 16]), "at line 1 column"),
            ("data_offsets", json!([-1, 8]), "integer `-1`"),
            ("data_offsets", json!(null), "null"),
            ("shape", json!("2"), "string \"2\""),
            ("shape", json!([1.5]), "1.5"),
            ("shape", json!([-2]), "`-2`"),
            ("shape", json!(1e300), "1e+300"),
            ("dtype", json!(7), "integer `7`"),
            ("dtype", json!({}), "map"),
        ] {
            let bytes = with_header(&good, |header| header[name][field] = value.clone());
            trial.fails(&format!("{field} of {name}: {value}"), bytes, weights, &["its header: ", says, "column"]);
        }
        for field in ["data_offsets", "shape", "dtype"] {
            let bytes = with_header(&good, |header| drop(header[name].as_object_mut().unwrap().remove(field)));
            trial.fails(&format!("{name} without {field}"), bytes, weights, &[&format!("missing field `{field}`")]);
        }
        // The tensor's bytes are then unused.
        let bytes = with_header(&good, |header| drop(header.remove(name)));
        trial.fails(
            &format!("without {name}"),
            bytes,
            weights,
            &["but should begin at"][..usize::from(name != "c_scale")],
        );
        let twice = Value::from(header.clone()).to_string().replacen('{', &format!("{{{quoted}:{},", header[name]), 1);
        trial.fails(&format!("{name} twice"), together(&twice, values), weights, &[&quoted]);
    }
    for value in [json!([]), json!(1), json!("x"), json!({"a": 1}), json!({"a": null})] {
        let bytes = with_header(&good, |header| header["__metadata__"] = value.clone());
        trial.fails(&format!("metadata {value}"), bytes, weights, &["its header: ", "column"]);
    }
    for text in ["", " ", "null", "[]", "{", "{}", "{\"a\":", "{\"a\":{}}", "\u{feff}{}", "{\"a\":\"b\"}"] {
        trial.load(&format!("the header {text:?}"), together(text, values), weights);
    }
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    trial.fails("a header of brackets", together(&deep, values), weights, &["its header: "]);
    // Values of each type: NaN and both infinities, and a scale with which finite values become infinite.
    let start = good.len() - values.len();
    for (at, name, bits) in [
        (0, "a", &[0x7fc0_0000u32, 0x7f80_0000, 0xff80_0000, 0xffff_ffff][..]),
        (12, "a", &[0x7fc0_0000, 0x7f80_0000]),
        (32, "c_scale", &[0x7fc0_0000, 0x7f80_0000, 0xff80_0000]),
        (36, "c", &[0x7f7f_ffff]),
    ] {
        for &bits in bits {
            let mut bytes = good.clone();
            bytes[start + at..start + at + 4].copy_from_slice(&bits.to_le_bytes());
            trial.fails(&format!("{bits:#x} in {name}"), bytes, weights, &[&format!("\"{name}\" holds ")]);
        }
    }
    for (index, bits) in [(0, 0x7e00u16), (1, 0x7c00), (3, 0xfc00)] {
        let mut bytes = good.clone();
        bytes[start + 16 + 2 * index..][..2].copy_from_slice(&bits.to_le_bytes());
        trial.fails(&format!("{bits:#x} in b"), bytes, weights, &["\"b\" holds ", &format!("at element {index}")]);
    }
    trial.report();
}

/// A whole model, mostly in int8.
fn whole() -> Vec<u8> {
    let zeros = layers(&network(Variant::KerasV2)).into_iter().flat_map(|(name, dims)| {
        let (len, out) = (dims.iter().product(), dims[0]);
        [(format!("{name}.weight"), dims, vec![0.0; len]), (format!("{name}.bias"), vec![out], vec![0.0; out])]
    });
    let metadata = [
        (key::VARIANT, "keras_v2"),
        (key::PREPROCESSING, r#"{"size":224,"order":"RGB","scale":0.5,"mean":[1,2,3]}"#),
        (key::LABELS, r#"["cat","dog","ship"]"#),
    ];
    let metadata: BTreeMap<_, _> = metadata.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    Weights::from_tensors(zeros).unwrap().quantized().unwrap().to_bytes(&metadata, false).unwrap()
}

#[test]
fn every_tensor_of_a_model() {
    let good = whole();
    model(good.clone()).unwrap();
    let mut trial = Trial::new("whole models", 1 << 20);
    let (header, values) = split_header(&good);
    let start = good.len() - values.len();
    for (name, info) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let quoted = format!("\"{name}\"");
        let renamed = with_header(&good, |header| {
            let info = header.remove(name).unwrap();
            header.insert(format!("other {name}"), info);
        });
        trial.fails(&format!("{name} under another name"), renamed, model, &[name.as_str()]);
        let shape: Vec<u64> = info["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap()).collect();
        let len: u64 = shape.iter().product();
        for dims in [json!([len, 1]), json!([1, 1, len]), json!([])] {
            let case = format!("{name} as {dims}");
            let bytes = with_header(&good, |header| header[name]["shape"] = dims);
            trial.fails(&case, bytes, model, &[name.trim_end_matches("_scale")]);
        }
        if info["dtype"] == "F32" {
            let at = start + info["data_offsets"][1].as_u64().unwrap() as usize - 4;
            for (value, says) in [(f32::NAN, "NaN"), (f32::INFINITY, "an infinity"), (f32::NEG_INFINITY, "an infinity")]
            {
                let mut bytes = good.clone();
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
                trial.fails(
                    &format!("{value} in {name}"),
                    bytes,
                    model,
                    &[&quoted, says, &format!("element {}", len - 1)],
                );
            }
        }
    }
    let extra = with_header(&good, |header| {
        header.insert(
            "conv9.weight".into(),
            json!({"dtype": "F32", "shape": [0], "data_offsets": [values.len(), values.len()]}),
        );
    });
    trial.fails("one tensor more", extra, model, &["\"conv9.weight\"", "no layer"]);
    trial.report();
}

#[test]
fn every_entry_of_a_models_metadata() {
    let good = whole();
    let mut trial = Trial::new("metadata", 1 << 20);
    let preprocessing = [
        "",
        "{}",
        "[]",
        "null",
        r#"{"size":0}"#,
        r#"{"size":-1}"#,
        r#"{"size":4097}"#,
        r#"{"size":1e9}"#,
        r#"{"size":224,"mean":[1,2]}"#,
        r#"{"size":224,"mean":[1,2,1e39]}"#,
        r#"{"size":224,"std":[1,0,1]}"#,
        r#"{"size":224,"std":[1,1e-45,1]}"#,
        r#"{"size":224,"scale":1e39}"#,
        r#"{"size":224,"scale":"1"}"#,
        r#"{"size":224,"order":"GBR"}"#,
        r#"{"size":224,"through":0}"#,
        r#"{"size":224,"more":1}"#,
    ];
    let labels = ["", "{}", "[]", r#"["cat"]"#, r#"["a","b","c","d"]"#, r#"[1,2,3]"#, r#"["a","b",null]"#];
    let variants = ["", "v3", "Keras", "caffe\0"];
    let all = (preprocessing.iter().map(|v| (key::PREPROCESSING, *v)))
        .chain(labels.iter().map(|v| (key::LABELS, *v)))
        .chain(variants.iter().map(|v| (key::VARIANT, *v)));
    for (key, value) in all {
        let bytes = with_header(&good, |header| header["__metadata__"][key] = json!(value));
        trial.fails(&format!("{key} {value:?}"), bytes, model, &[&format!("entry \"{key}\"")]);
    }
    trial.report();
}

/// An empty tensor may have any number of rows. No memory is allocated for the names of that many classes.
#[test]
fn an_empty_tensor_may_have_any_number_of_rows() {
    let mut trial = Trial::new("classes", 1 << 20);
    let bytes = together(
        r#"{"__metadata__":{"variant":"caffe"},"loss3/classifier.weight":
            {"dtype":"F32","shape":[1000000000000,0],"data_offsets":[0,0]}}"#,
        b"",
    );
    trial.fails("10^12 classes", bytes, model, &["\"loss3/classifier.weight\" has shape 1000000000000x0"]);
}

/// The memory of an import in addition to the file: the network in f32 as it is parsed, collected, written and stored;
/// and for HDF5 a copy of the file.
const IMPORT_MEMORY: usize = 96 << 20;

#[test]
fn every_byte_of_a_caffemodel() {
    let name = "loss3/classifier";
    let good =
        caffemodel([caffe_weights("conv1/7x7_s2", &[64, 3, 7, 7], false), caffe_weights(name, &[3, 1024], false)]);
    assert!(recognises(&good));
    let mut trial = Trial::new("Caffe, byte by byte", 1 << 20);
    byte_by_byte(&mut trial, &good, foreign, 1);
    trial.report();
}

#[test]
fn every_layer_of_a_caffemodel() {
    let network = network(Variant::Caffe);
    let all = layers(&network);
    let whole: Vec<Vec<u8>> = all.iter().map(|(name, dims)| caffe_weights(name, dims, true)).collect();
    let mut trial = Trial::new("Caffe, layer by layer", IMPORT_MEMORY);
    assert!(trial.load("whole", files::caffe(true), foreign).is_none());
    let with = |at: usize, layer: Option<Vec<u8>>| {
        let mut layers = whole.clone();
        match layer {
            Some(layer) => layers[at] = layer,
            None => drop(layers.remove(at)),
        }
        caffemodel(layers)
    };
    // Every fifth layer, because each file has 24 MB and the layers are similar.
    for (at, (name, dims)) in all.iter().enumerate().step_by(5) {
        let mut fails = |case: &str, layer: Option<Vec<u8>>, says: &[&str]| {
            trial.fails(&format!("{name}, {case}"), with(at, layer), foreign, &[says, &[name.as_str()]].concat());
        };
        fails("missing", None, &["lacks the tensor"]);
        fails("without values", Some(caffe_weights(name, dims, false)), &["it has 0 values in the file"]);
        fails("without a bias", Some(files::caffe_layer(name, "Convolution", &[vec![]])), &["it has 1 blobs"]);
        fails("more blobs", Some(files::caffe_layer(name, "Convolution", &vec![vec![]; 9])), &["too many blobs"]);
        let mut wrong = dims.clone();
        *wrong.last_mut().unwrap() += 1;
        fails("another shape", Some(caffe_weights(name, &wrong, false)), &["shape"]);
    }
    trial.report();
}

/// A number of classes for which the number of weights overflows.
#[test]
fn classes_of_a_caffemodel_may_be_any_number() {
    let mut all: Vec<Vec<u8>> =
        layers(&network(Variant::Caffe)).iter().map(|(name, dims)| caffe_weights(name, dims, true)).collect();
    *all.last_mut().unwrap() = caffe_weights("loss3/classifier", &[1 << 62, 1024], false);
    let mut trial = Trial::new("Caffe's classes", IMPORT_MEMORY);
    trial.fails("2^62 classes", caffemodel(all), foreign, &["loss3/classifier"]);
}

#[test]
fn every_byte_of_an_onnx_graph() {
    let good = files::onnx(false);
    assert!(recognises(&good));
    let mut trial = Trial::new("ONNX, byte by byte", 2 << 20);
    byte_by_byte(&mut trial, &good, foreign, 17);
    trial.report();
}

#[test]
fn a_whole_onnx_graph() {
    let good = files::onnx(true);
    let mut trial = Trial::new("ONNX, whole", IMPORT_MEMORY);
    assert!(trial.load("whole", good.clone(), foreign).is_none());
    // Each of these names of operations and attributes is changed.
    let texts =
        ["Conv", "Relu", "MaxPool", "LRN", "Concat", "Gemm", "Flatten", "pads", "strides", "kernel_shape", "axis"];
    for text in texts {
        let at = good.windows(text.len()).position(|w| w == text.as_bytes()).unwrap();
        for by in [1, 0x80] {
            let mut bytes = good.clone();
            bytes[at] ^= by;
            trial.load(&format!("another {text}"), bytes, foreign);
        }
    }
    trial.report();
}

/// A byte of a list of dimensions takes eight bytes in memory, and an attribute of five bytes about two hundred.
#[test]
fn onnx_lists_take_bounded_memory() {
    let mut trial = Trial::new("ONNX, long lists", 40 << 20);
    let model = |graph: Message| Message::default().int(1, 8).bytes(7, graph.0).0;
    let dims = Message::default().bytes(1, vec![1; 4 << 20]).0;
    trial.fails("four million dimensions", model(Message::default().bytes(5, dims)), foreign, &["cut off or damaged"]);
    let attributes =
        (0..200).fold(Message::default(), |node, i| node.bytes(5, Message::default().bytes(1, format!("{i}")).0));
    let nodes = (0..9000).fold(Message::default(), |graph, _| graph.bytes(1, &attributes.0));
    trial.fails("a million attributes", model(nodes), foreign, &["far more nodes"]);
    trial.report();
}

#[test]
fn every_byte_of_an_hdf5_file() {
    let good = [files::keras(), files::tf_keras()];
    for (good, what) in good.iter().zip(["Keras 3, byte by byte", "TensorFlow 2, byte by byte"]) {
        assert!(recognises(good));
        let mut trial = Trial::new(what, IMPORT_MEMORY);
        assert!(trial.load("whole", good.clone(), foreign).is_none());
        let mut state = 1u32;
        for cut in (0..good.len()).step_by(good.len() / 40) {
            trial.load(&format!("cut at {cut}"), good[..cut].to_vec(), foreign);
        }
        // Pseudo-random numbers of a linear congruential generator.
        for case in 0..150 {
            let mut bytes = good.clone();
            for _ in 0..1 + case % 3 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (state >> 8) as usize % bytes.len();
                bytes[at] = [0, 1, 0xff, bytes[at] ^ 1, bytes[at] ^ 0x80][(state & 0xff) as usize % 5];
            }
            trial.load(&format!("case {case}"), bytes, foreign);
        }
        trial.report();
    }
}

#[test]
fn every_byte_of_a_zip_archive() {
    let mut file = files::Hdf5::default();
    let root = file.group(&[], &[]);
    let inside = file.finish(root);
    let good = files::zip("model.weights.h5", &inside);
    let mut trial = Trial::new("zip, byte by byte", 4 << 20);
    trial.fails("whole", good.clone(), foreign, &["HDF5 file without Keras' variables"]);
    byte_by_byte(&mut trial, &good, foreign, 1);
    let keras = files::keras();
    let whole = files::zip("model.weights.h5", &keras);
    assert!(Trial::new("zip, whole", IMPORT_MEMORY).load("whole", whole, foreign).is_none());
    trial.report();
}
