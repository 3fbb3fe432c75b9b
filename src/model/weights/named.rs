//! Values by name, in the order of the names: a sorted list. The standard library's maps are some 4 KB of every module
//! for each type of value, and a model has a hundred names.

/// Values by name.
#[derive(Debug, Clone)]
pub struct Named<T>(Vec<(String, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named(Vec::new())
    }
}

impl<T> Named<T> {
    /// Of entries in any order; the name that is there twice is the error.
    pub fn new(mut entries: Vec<(String, T)>) -> Result<Self, String> {
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        match entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(pair[0].0.clone()),
            None => Ok(Named(entries)),
        }
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.as_str().cmp(name))
    }

    /// Adds a value, or puts it in the place of the one of this name.
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
    fn values_are_found_by_name_and_come_in_order() {
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
    fn a_name_that_is_there_twice_is_told() {
        let twice = ["x", "y", "x"].map(|name| (name.to_owned(), ()));
        assert_eq!(Named::new(twice.into()).unwrap_err(), "x");
    }
}
