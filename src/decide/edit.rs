//! Edits of fields as rules state them, on requests and responses alike.
//! It must not know when they are made.
//! The proxy and the configuration's tests call it, so that both see the same message.

use http::{HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::Result;

use crate::snapshot::route::HeaderOps;

/// A message whose fields can be edited. Pingora keeps a second map for the case of names, so each has methods of its own.
pub trait Fields {
    /// Takes a field away.
    fn remove(&mut self, name: &HeaderName);
    /// Replaces or creates a field.
    ///
    /// # Errors
    /// When the map is full.
    fn replace(&mut self, name: HeaderName, value: &HeaderValue) -> Result<()>;
    /// Appends a field.
    ///
    /// # Errors
    /// When the map is full.
    fn append(&mut self, name: HeaderName, value: &HeaderValue) -> Result<()>;
}

macro_rules! fields {
    ($message:ty) => {
        impl Fields for $message {
            fn remove(&mut self, name: &HeaderName) {
                self.remove_header(name);
            }

            fn replace(&mut self, name: HeaderName, value: &HeaderValue) -> Result<()> {
                self.insert_header(name, value)
            }

            fn append(&mut self, name: HeaderName, value: &HeaderValue) -> Result<()> {
                self.append_header(name, value).map(|_| ())
            }
        }
    };
}

fields!(RequestHeader);
fields!(ResponseHeader);

/// Removes, then sets, then adds.
///
/// # Errors
/// When the message can take no more fields.
pub fn edit(head: &mut impl Fields, ops: &HeaderOps) -> Result<()> {
    ops.remove.iter().for_each(|name| head.remove(name));
    for (name, value) in &ops.set {
        head.replace(name.clone(), value)?;
    }
    for (name, value) in &ops.add {
        head.append(name.clone(), value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_removed_then_set_then_added() {
        let pair = |name, value| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        let ops = HeaderOps {
            remove: [HeaderName::from_static("a")].into(),
            set: [pair("a", "1"), pair("b", "2")].into(),
            add: [pair("b", "3")].into(),
        };
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.insert_header("a", "old").unwrap();

        edit(&mut head, &ops).unwrap();

        let b: Vec<_> = head.headers.get_all("b").iter().collect();
        assert_eq!(head.headers["a"], "1");
        assert_eq!(b, ["2", "3"]);
    }
}
