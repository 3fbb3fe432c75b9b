//! Which examples are held out: parts of a data set in which each class has its share.
//!
//! Copies of one picture are always on the same side, because a classifier that has seen a picture proves nothing by
//! recognising it. Everything here depends on the seed only.

use crate::plan::random::hash;

/// The groups of `count` examples that are all different: for each example, its own number.
pub fn alone(count: usize) -> Vec<usize> {
    (0..count).collect()
}

/// The number of the fold (0..`folds`) in which each example is held out. Every fold has its share of each class, and all
/// folds have about the same size. `groups` has, for each example, the number of the first example of which it is a copy.
pub fn folds(labels: &[usize], groups: &[usize], folds: usize, seed: u32) -> Vec<usize> {
    let mut fold = vec![0; labels.len()];
    // Each class goes on where the one before ended, so that small classes do not all meet in the first fold.
    let mut next = 0;
    for class in classes(labels, groups, seed) {
        for example in class {
            fold[example] = next % folds.max(1);
            next += 1;
        }
    }
    (0..labels.len()).map(|example| fold[groups[example]]).collect()
}

/// Whether each example is held out, where this share of every class is: of a class of at least two different pictures at
/// least one, and never all. `groups` is as in [`folds`].
pub fn share(labels: &[usize], groups: &[usize], share: f64, seed: u32) -> Vec<bool> {
    let mut held_out = vec![false; labels.len()];
    for class in classes(labels, groups, seed) {
        let most = class.len().saturating_sub(1);
        let count = (share * class.len() as f64).round() as usize;
        for &example in &class[..count.clamp(1.min(most), most)] {
            held_out[example] = true;
        }
    }
    (0..labels.len()).map(|example| held_out[groups[example]]).collect()
}

/// The examples of each class that are no copies, shuffled.
fn classes(labels: &[usize], groups: &[usize], seed: u32) -> Vec<Vec<usize>> {
    let mut classes = vec![Vec::new(); labels.iter().max().map_or(0, |&last| last + 1)];
    for (example, &label) in labels.iter().enumerate().filter(|(example, _)| groups[*example] == *example) {
        classes[label].push(example);
    }
    for (number, class) in classes.iter_mut().enumerate() {
        shuffle(class, [seed, number as u32]);
    }
    classes
}

/// Shuffles by the method of Fisher and Yates, with random numbers that depend on `seed` only.
pub fn shuffle<T>(items: &mut [T], seed: [u32; 2]) {
    for last in (1..items.len()).rev() {
        let [random, _, _] = hash([seed[0], seed[1], last as u32]);
        // The upper half of the product is a number from 0 to `last`, each about equally probable.
        items.swap(last, ((u64::from(random) * (last as u64 + 1)) >> 32) as usize);
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    /// 40 examples of class 0, 21 of class 1, 4 of class 2, in a mixed order.
    fn labels() -> Vec<usize> {
        (0..65).map(|i| if i % 16 == 3 && i < 64 { 2 } else { usize::from(i % 3 == 1 && i != 1) }).collect()
    }

    fn count<T: PartialEq>(labels: &[usize], of: &[T], class: usize, value: T) -> usize {
        labels.iter().zip(of).filter(|(l, v)| **l == class && **v == value).count()
    }

    #[test]
    fn every_fold_has_its_share_of_each_class() {
        let labels = labels();
        let five = folds(&labels, &alone(65), 5, 1);
        for class in 0..3 {
            let size = labels.iter().filter(|&&l| l == class).count();
            for fold in 0..5 {
                let part = count(&labels, &five, class, fold);
                assert!((size / 5..=size.div_ceil(5)).contains(&part), "class {class}, fold {fold}: {part}");
            }
        }
        assert!((0..5).all(|fold| five.iter().filter(|&&f| f == fold).count() == 13));
        assert_eq!(five, folds(&labels, &alone(65), 5, 1));
        assert_ne!(five, folds(&labels, &alone(65), 5, 2));
    }

    #[test]
    fn a_share_of_each_class_is_held_out_but_never_all_of_it() {
        let labels = labels();
        let fifth = share(&labels, &alone(65), 0.2, 1);
        assert_eq!([0, 1, 2].map(|class| count(&labels, &fifth, class, true)), [8, 4, 1]);
        let all = share(&labels, &alone(65), 0.999, 1);
        assert!((0..3).all(|class| count(&labels, &all, class, false) == 1));
        let few = share(&labels, &alone(65), 1e-9, 1);
        assert!((0..3).all(|class| count(&labels, &few, class, true) == 1));
        assert!(!share(&[0, 0, 1], &alone(3), 0.5, 1)[2], "a class's only example is not held out");
        assert_ne!(fifth, share(&labels, &alone(65), 0.2, 2));
    }

    #[test]
    fn copies_are_on_the_same_side() {
        let labels = labels();
        // Every fourth example is a copy of the first one before it that is none.
        let groups: Vec<usize> = (0..65).map(|i| if i % 4 == 3 { i - 1 } else { i }).collect();
        let five = folds(&labels, &groups, 5, 1);
        let fifth = share(&labels, &groups, 0.2, 1);
        assert!((3..65).step_by(4).all(|i| five[i] == five[i - 1] && fifth[i] == fifth[i - 1]));
        let apart = folds(&labels, &alone(65), 5, 1);
        assert!((3..65).step_by(4).any(|i| apart[i] != apart[i - 1]));
    }

    #[test]
    fn a_shuffle_moves_every_item_to_every_place() {
        let mut seen = [[0; 6]; 6];
        for seed in 0..600 {
            let mut items = [0, 1, 2, 3, 4, 5];
            shuffle(&mut items, [seed, 7]);
            items.iter().enumerate().for_each(|(place, &item)| seen[place][item] += 1);
        }
        // The expected number is 100, with a standard deviation of 9.
        assert!(seen.iter().flatten().all(|&n| (60..140).contains(&n)), "{seen:?}");
        shuffle::<u8>(&mut [], [0, 0]);
    }
}
