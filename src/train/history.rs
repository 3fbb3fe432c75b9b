//! What was measured in each epoch of a training.

use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// One epoch. A value that is not finite is `null` in JSON.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Epoch {
    /// The mean of the training loss over the epoch's pictures: the weighted sum over all heads.
    #[serde(deserialize_with = "number")]
    pub loss: f32,
    /// The mean loss of each head, by its name (`loss1`, `loss2`, `loss3`), without its weight.
    #[serde(deserialize_with = "numbers")]
    pub heads: BTreeMap<String, f32>,
    /// The share of held-out pictures that the last head classifies correctly; `None` where no pictures are held out.
    pub accuracy: Option<f32>,
    /// The learning rate in the epoch's last step.
    #[serde(deserialize_with = "number")]
    pub rate: f32,
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f32, D::Error> {
    Option::deserialize(from).map(|value| value.unwrap_or(f32::NAN))
}

fn numbers<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f32>, D::Error> {
    let values: BTreeMap<String, Option<f32>> = Deserialize::deserialize(from)?;
    Ok(values.into_iter().map(|(name, value)| (name, value.unwrap_or(f32::NAN))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::random::hash;

    #[test]
    fn json_keeps_every_bit() {
        let heads =
            |values: [f32; 2]| BTreeMap::from([("loss1".to_owned(), values[0]), ("loss3".to_owned(), values[1])]);
        for i in 0..2000 {
            // Any finite values, also tiny and huge ones.
            let [a, b, c] =
                hash([i, 0, 0]).map(|bits| Some(f32::from_bits(bits)).filter(|v| v.is_finite()).unwrap_or(-0.0));
            let epoch = Epoch { loss: a, heads: heads([b, c]), accuracy: Some(b), rate: c };
            let json = serde_json::to_string(&epoch).unwrap();
            assert_eq!(serde_json::from_str::<Epoch>(&json).unwrap(), epoch, "{json}");
            let other = serde_json::to_string(&Epoch { loss: f32::from_bits(a.to_bits() ^ 1), ..epoch }).unwrap();
            assert_ne!(json, other);
        }
        let epoch = Epoch { loss: f32::NAN, heads: heads([f32::INFINITY, 2.5]), accuracy: None, rate: 0.5 };
        let json = serde_json::to_string(&epoch).unwrap();
        assert_eq!(json, r#"{"loss":null,"heads":{"loss1":null,"loss3":2.5},"accuracy":null,"rate":0.5}"#);
        let back: Epoch = serde_json::from_str(&json).unwrap();
        assert!(back.loss.is_nan() && back.heads["loss1"].is_nan() && back.heads["loss3"] == 2.5);
    }
}
