//! Common code of the importers: collecting layers by name, reordering weights, and folding batch norm.

use crate::error::{Error, Result};
use crate::graph::network::Network;
use crate::graph::tensor::Shape;
use crate::model::tensor_names;

/// The name, dimensions and values of each tensor of a model file.
pub(super) type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

/// A layer's weights, OIHW or (out, in), and its biases, (out).
#[derive(Debug, Clone)]
pub(super) struct Values {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

/// The order in which a framework's dense layers flatten a feature map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flatten {
    /// Height, width, channels, as in the engine.
    Hwc,
    /// Channels, height, width.
    Chw,
}

/// The number of values of a tensor of these dimensions. `None` where it overflows.
pub(super) fn product(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |product, &d| product.checked_mul(d))
}

/// Returns the tensors of all layers of the network that have weights. `find` is called with each layer's name and the
/// dimensions of its weights, and must return values of these dimensions.
pub(super) fn collect(
    network: &Network,
    flatten: Flatten,
    mut find: impl FnMut(&str, &[usize]) -> Result<Values>,
) -> Result<Tensors> {
    let mut tensors = Vec::new();
    for (id, node) in network.nodes().iter().enumerate() {
        let input = network.input_shape(id);
        let Some(dims) = node.op.weight_dims(input) else { continue };
        let Values { mut weight, bias } = find(&node.name, &dims)?;
        if dims.len() == 2 && input.pixels() > 1 && flatten == Flatten::Chw {
            weight = columns_hwc(&weight, input);
        }
        let [weight_name, bias_name] = tensor_names(&node.name);
        let out = dims[0];
        tensors.push((weight_name, dims, weight));
        tensors.push((bias_name, vec![out], bias));
    }
    Ok(tensors)
}

/// Reorders the columns of a dense layer's weights from CHW to HWC.
fn columns_hwc(weight: &[f32], input: Shape) -> Vec<f32> {
    let rows = weight.chunks_exact(input.per_image());
    rows.flat_map(|row| crate::graph::tensor::nchw_to_nhwc(input, row)).collect()
}

/// Reorders a kernel from HWIO to OIHW. `positions` is h*w, which is 1 for dense layers.
pub(super) fn outputs_first(kernel: &[f32], out: usize, positions: usize) -> Vec<f32> {
    let inputs = kernel.len() / (out * positions).max(1);
    let mut to = Vec::with_capacity(kernel.len());
    for o in 0..out {
        for i in 0..inputs {
            to.extend((0..positions).map(|p| kernel[(p * inputs + i) * out + o]));
        }
    }
    to
}

/// A batch norm: `(x - mean) / sqrt(var + epsilon) * scale + shift`, with one value of each for each channel.
pub(super) struct BatchNorm {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
    pub mean: Vec<f32>,
    pub var: Vec<f32>,
    pub epsilon: f32,
}

impl BatchNorm {
    /// Folds the batch norm into the values of the layer before it. Fails with [`Error::Shape`] where the numbers of
    /// channels differ.
    pub fn fold(&self, layer: &str, values: &mut Values) -> Result<()> {
        let out = values.bias.len();
        if [&self.scale, &self.shift, &self.mean, &self.var].iter().any(|v| v.len() != out) {
            return Err(Error::Shape {
                layer: layer.to_owned(),
                reason: format!("its batch norm does not have its {out} channels"),
            });
        }
        let each = values.weight.len() / out.max(1);
        for (o, row) in values.weight.chunks_exact_mut(each.max(1)).enumerate() {
            let factor = f64::from(self.scale[o]) / (f64::from(self.var[o]) + f64::from(self.epsilon)).sqrt();
            for weight in row {
                *weight = (f64::from(*weight) * factor) as f32;
            }
            let centred = f64::from(values.bias[o]) - f64::from(self.mean[o]);
            values.bias[o] = (centred * factor + f64::from(self.shift[o])) as f32;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_reordered() {
        // h 1, w 2, in 2, out 3. Each value is its index in Keras' order.
        let kernel: Vec<f32> = (0..12).map(|i| i as f32).collect();
        assert_eq!(outputs_first(&kernel, 3, 2), [0., 6., 3., 9., 1., 7., 4., 10., 2., 8., 5., 11.]);
        assert_eq!(outputs_first(&kernel, 3, 1), [0., 3., 6., 9., 1., 4., 7., 10., 2., 5., 8., 11.]);
        // Two rows for 1x2x3 features.
        assert_eq!(columns_hwc(&kernel, Shape::new(1, 1, 2, 3)), [0., 2., 4., 1., 3., 5., 6., 8., 10., 7., 9., 11.]);
    }

    #[test]
    fn batch_norm_is_folded() {
        let mut values = Values { weight: vec![1.0, 2.0, 3.0, 4.0], bias: vec![1.0, 0.0] };
        let mut norm = BatchNorm {
            scale: vec![2.0, 3.0],
            shift: vec![10.0, 20.0],
            mean: vec![3.0, -1.0],
            var: vec![3.0, 0.0],
            epsilon: 1.0,
        };
        norm.fold("conv", &mut values).unwrap();
        assert_eq!(values.weight, [1.0, 2.0, 9.0, 12.0]);
        assert_eq!(values.bias, [8.0, 23.0]);
        norm.var.pop();
        assert_eq!(norm.fold("conv", &mut values).unwrap_err().detail(), Some("conv"));
    }
}
