//! Edits of fields as rules state them, on requests and responses alike.
//! It must not know when they are made.
//! The proxy and the configuration's tests call it, so that both see the same message.

use http::HeaderMap;

use crate::snapshot::route::HeaderOps;

/// Removes, then sets, then adds.
pub fn edit(fields: &mut HeaderMap, ops: &HeaderOps) {
    for name in &ops.remove {
        fields.remove(name);
    }
    for (name, value) in &ops.set {
        fields.insert(name.clone(), value.clone());
    }
    for (name, value) in &ops.add {
        fields.append(name.clone(), value.clone());
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

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
        let mut fields = HeaderMap::from_iter([pair("a", "old")]);

        edit(&mut fields, &ops);

        let b: Vec<_> = fields.get_all("b").iter().collect();
        assert_eq!(fields["a"], "1");
        assert_eq!(b, ["2", "3"]);
    }
}
