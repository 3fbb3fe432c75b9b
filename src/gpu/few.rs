//! A map of so few that looking at each of them is fast enough. The standard library's are five times the code, which
//! every page downloads.

#[derive(Debug, Clone, PartialEq)]
pub struct Few<K, V>(Vec<(K, V)>);

impl<K: PartialEq, V> Few<K, V> {
    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.iter().find(|(at, _)| at == key).map(|(_, value)| value)
    }

    /// Of a key that is not there yet.
    pub fn insert(&mut self, key: K, value: V) {
        self.0.push((key, value));
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.0.iter()
    }
}

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Few(Vec::new())
    }
}

impl<K, V> FromIterator<(K, V)> for Few<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(all: I) -> Self {
        Few(all.into_iter().collect())
    }
}
