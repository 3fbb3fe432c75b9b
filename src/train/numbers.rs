//! Options of the form `name:number:number`, as the command line gives them.

use crate::error::{Error, Result};

/// Splits `name:number:number` into its name, and writes the numbers over `defaults`, the values of the numbers that the
/// text leaves out. Fails with [`Error::Argument`] where there are too many numbers, or one that is not finite.
pub fn parse<'a>(text: &'a str, defaults: &mut [f64]) -> Result<&'a str> {
    let mut parts = text.split(':');
    let name = parts.next().unwrap_or_default();
    let mut left = defaults.iter_mut();
    for part in parts {
        let Some(to) = left.next() else {
            return Err(Error::Argument(format!("\"{text}\" has too many numbers after \"{name}\"")));
        };
        let number = part.parse().ok().filter(|v: &f64| v.is_finite());
        *to = number.ok_or_else(|| Error::Argument(format!("\"{part}\" in \"{text}\" is not a number")))?;
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_replace_the_defaults() {
        let read = |text: &str| {
            let mut numbers = [1.0, 2.0];
            parse(text, &mut numbers).map(|name| (name.to_owned(), numbers))
        };
        assert_eq!(read("step").unwrap(), ("step".to_owned(), [1.0, 2.0]));
        assert_eq!(read("step:5").unwrap(), ("step".to_owned(), [5.0, 2.0]));
        assert_eq!(read("step:5:-1e3").unwrap(), ("step".to_owned(), [5.0, -1000.0]));
        assert_eq!(read("step:5:6:7").unwrap_err().to_string(), "\"step:5:6:7\" has too many numbers after \"step\"");
        assert_eq!(read("step:x").unwrap_err().to_string(), "\"x\" in \"step:x\" is not a number");
        assert!(read("step:").is_err() && read("step:nan").is_err() && read("step:inf").is_err());
    }
}
