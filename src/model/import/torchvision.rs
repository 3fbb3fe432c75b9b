//! torchvision's GoogLeNet: a state dict saved as safetensors. Batch norm is folded into the convolutions.

use super::layers::{BatchNorm, Flatten, Values, collect};
use super::source::Source;
use crate::error::{Dims, Error, Result};
use crate::graph::googlenet::{Spec, Variant};
use crate::model::preprocess::{Order, Preprocess};
use crate::model::weights::Named;
use crate::model::weights::header::{self, Stored};
use half::{bf16, f16};

/// The epsilon of every batch norm of the network, from torchvision's `BasicConv2d`.
const EPSILON: f32 = 1e-3;

/// The preprocessing of torchvision's own weights. The model's `transform_input` replaces the normalisation with
/// ImageNet's mean and standard deviation by pixel values -1..1.
const PRETRAINED: Preprocess =
    Preprocess { size: 224, order: Order::Rgb, scale: 1.0 / 255.0, mean: [0.5; 3], std: [0.5; 3], through: None };

/// The file, and the tensors in it that have not been read yet.
struct Views<'a> {
    file: &'a [u8],
    tensors: Named<Stored>,
}

pub(super) fn recognises(bytes: &[u8]) -> bool {
    header::names(bytes, "conv1.conv.weight")
}

pub(super) fn read(bytes: &[u8]) -> Result<Source> {
    let (mut tensors, _) = header::read(bytes)?;
    // These are the numbers of training steps of batch norms, not weights.
    tensors.retain(|name| !name.ends_with(".num_batches_tracked"));
    let classes = tensors.get("fc.weight").and_then(|stored| stored.dims.first()).copied().unwrap_or(1000);
    let heads = tensors.names().any(|name| name.starts_with("aux"));
    let mut views = Views { file: bytes, tensors };
    let spec = Spec { variant: Variant::Torchvision, classes, heads, ..Spec::default() };
    let tensors = collect(&spec.build()?, Flatten::Chw, |name, dims| {
        let at = path(name);
        if dims.len() == 2 {
            let weight = take(&mut views, format!("{at}.weight"), dims)?;
            return Ok(Values { weight, bias: take(&mut views, format!("{at}.bias"), &dims[..1])? });
        }
        let weight = take(&mut views, format!("{at}.conv.weight"), dims)?;
        let mut norm = |what: &str| take(&mut views, format!("{at}.bn.{what}"), &dims[..1]);
        let norm = BatchNorm {
            scale: norm("weight")?,
            shift: norm("bias")?,
            mean: norm("running_mean")?,
            var: norm("running_var")?,
            epsilon: EPSILON,
        };
        let mut values = Values { weight, bias: vec![0.0; dims[0]] };
        norm.fold(&at, &mut values)?;
        Ok(values)
    })?;
    if let Some((name, extra)) = views.tensors.iter().next() {
        return Err(Error::ExtraTensor {
            name: name.clone(),
            found: extra.dims.as_slice().into(),
            variant: Variant::Torchvision.to_string(),
        });
    }
    Ok(Source {
        preprocess: Some(PRETRAINED),
        assumed: Some(
            "a state dict does not describe its preprocessing; that of torchvision's own weights is assumed: RGB/255, \
             mean 0.5, std 0.5 (its transform_input); for a network trained without transform_input, use \
             --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
        ),
        ..Source::new("torchvision state dict", Variant::Torchvision, tensors)
    })
}

/// The prefix of a layer's tensors in a state dict.
fn path(layer: &str) -> String {
    match layer.split_once('/') {
        Some(("conv1", _)) => "conv1".into(),
        Some(("conv2", "3x3_reduce")) => "conv2".into(),
        Some(("conv2", _)) => "conv3".into(),
        Some(("loss3", _)) => "fc".into(),
        Some((head @ ("loss1" | "loss2"), part)) => {
            let part = match part {
                "conv" => "conv",
                "fc" => "fc1",
                _ => "fc2",
            };
            format!("{}.{part}", head.replace("loss", "aux"))
        }
        _ => {
            let (module, part) = layer.split_once('/').unwrap_or((layer, ""));
            let part = match part {
                "1x1" => "branch1",
                "3x3_reduce" => "branch2.0",
                "3x3" => "branch2.1",
                "5x5_reduce" => "branch3.0",
                "5x5" => "branch3.1",
                _ => "branch4.1",
            };
            format!("{}.{part}", module.replace('_', ""))
        }
    }
}

/// Removes a tensor from `views` and returns its values. It must have this shape.
fn take(views: &mut Views, name: String, expected: &[usize]) -> Result<Vec<f32>> {
    let Some(stored) = views.tensors.remove(&name) else {
        return Err(Error::MissingTensor { name, expected: expected.into() });
    };
    if stored.dims != expected {
        return Err(Error::TensorShape { name, expected: expected.into(), found: Dims(stored.dims) });
    }
    let bytes = &views.file[stored.bytes];
    Ok(match stored.dtype.as_str() {
        "F32" => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        "F16" => bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
        "BF16" => bytes.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
        "F64" => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
        _ => return Err(Error::TensorType { name, found: stored.dtype }),
    })
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn layers_have_the_names_of_torchvision() {
        for (layer, at) in [
            ("conv1/7x7_s2", "conv1"),
            ("conv2/3x3_reduce", "conv2"),
            ("conv2/3x3", "conv3"),
            ("inception_3a/1x1", "inception3a.branch1"),
            ("inception_4e/3x3_reduce", "inception4e.branch2.0"),
            ("inception_5b/5x5", "inception5b.branch3.1"),
            ("inception_5b/pool_proj", "inception5b.branch4.1"),
            ("loss1/conv", "aux1.conv"),
            ("loss2/fc", "aux2.fc1"),
            ("loss2/classifier", "aux2.fc2"),
            ("loss3/classifier", "fc"),
        ] {
            assert_eq!(path(layer), at);
        }
    }
}
