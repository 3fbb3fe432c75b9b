//! A map with few entries, stored as a vector and searched linearly. The standard library's maps need five times as
//! much code, which every visitor of the page would download.

#[derive(Debug, Clone, PartialEq)]
pub struct VecMap<K, V>(Vec<(K, V)>);

impl<K: PartialEq, V> VecMap<K, V> {
    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.iter().find(|(at, _)| at == key).map(|(_, value)| value)
    }

    /// Adds an entry. The map must not have the key yet.
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

impl<K, V> Default for VecMap<K, V> {
    fn default() -> Self {
        VecMap(Vec::new())
    }
}

impl<K, V> FromIterator<(K, V)> for VecMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(all: I) -> Self {
        VecMap(all.into_iter().collect())
    }
}
