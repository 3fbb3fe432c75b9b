//! A map from names to values, as a sorted list. The standard library's maps would add about 4 KB to every WebAssembly
//! module for each type of value, and a model has only about a hundred names.

/// A map from names to values, sorted by name.
#[derive(Debug, Clone)]
pub struct Named<T>(Vec<(String, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named(Vec::new())
    }
}

impl<T> Named<T> {
    /// A map of entries in any order. Fails with the name where a name occurs twice.
    pub fn new(mut entries: Vec<(String, T)>) -> Result<Self, String> {
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        match entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(pair[0].0.clone()),
            None => Ok(Named(entries)),
        }
    }

    /// The index of a name, or the index at which to insert it.
    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.as_str().cmp(name))
    }

    /// Adds a value, or replaces the value with this name.
    pub fn insert(&mut self, name: String, value: T) {
        match self.find(&name) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (name, value)),
        }
    }

    pub fn get(&self, name: &str) -> Option<&T> {
        self.find(name).ok().map(|at| &self.0[at].1)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        self.find(name).ok().map(|at| &mut self.0[at].1)
    }

    pub fn remove(&mut self, name: &str) -> Option<T> {
        self.find(name).ok().map(|at| self.0.remove(at).1)
    }

    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|(name, _)| wanted(name));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&String, &T)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, value)| value)
    }
}

impl<T> IntoIterator for Named<T> {
    type Item = (String, T);
    type IntoIter = std::vec::IntoIter<(String, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_name_and_sorted() {
        let mut named = Named::new(vec![("b".to_owned(), 2), ("a".to_owned(), 1)]).unwrap();
        named.insert("c".into(), 0);
        named.insert("c".into(), 3);
        assert_eq!(named.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!([named.get("a"), named.get("c"), named.get("d")], [Some(&1), Some(&3), None]);
        assert_eq!((named.remove("b"), named.remove("b")), (Some(2), None));
        named.retain(|name| name != "a");
        assert_eq!(named.into_iter().collect::<Vec<_>>(), [("c".to_owned(), 3)]);
    }

    #[test]
    fn a_duplicate_name_is_an_error() {
        let twice = ["x", "y", "x"].map(|name| (name.to_owned(), ()));
        assert_eq!(Named::new(twice.into()).unwrap_err(), "x");
    }
}
